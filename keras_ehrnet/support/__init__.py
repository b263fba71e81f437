"""What everything else may stand on: messages, files, the terminal, names that are imported late."""
