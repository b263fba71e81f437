"""`python -m keras_ehrnet` is the command line."""

from keras_ehrnet.cli import main

main()
