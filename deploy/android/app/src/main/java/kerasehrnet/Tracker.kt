package kerasehrnet

/**
 * Gives people the same [Pose.id] from frame to frame.
 *
 * Who is where somebody is expected is them. An identity ends when somebody is not seen though nobody stands before
 * them: it is not given to whoever is in that place later. The Python package's tracker, but for the colors of clothes.
 */
class Tracker(
    private val skeleton: Skeleton,
    /** Persons less alike than this are not the same. */
    private val minSimilarity: Double = MIN_SIMILARITY,
    /** Seconds after which somebody is forgotten who is not seen though nobody is in the way. */
    private val patience: Double = PATIENCE,
    /** Seconds after which somebody is forgotten who is not seen for any reason. */
    private val patienceCovered: Double = PATIENCE_COVERED
) {
    /** Somebody who is followed. */
    private class Track(val id: Int, var pose: Pose, var seconds: Double) {
        var missing = 0.0
        private var velocityX = 0.0
        private var velocityY = 0.0

        /** Where somebody is who goes on as before. */
        fun at(now: Double): Pose =
            pose.moved((velocityX * (now - seconds)).toFloat(), (velocityY * (now - seconds)).toFloat())

        fun seen(person: Pose, now: Double) {
            val shared = (0 until pose.size).filter { pose.score(it) > 0 && person.score(it) > 0 }
            if (now > seconds && shared.isNotEmpty()) {
                val stepX = median(shared.map { person.x(it) - pose.x(it) }) / (now - seconds)
                val stepY = median(shared.map { person.y(it) - pose.y(it) }) / (now - seconds)
                velocityX += NEW * (stepX - velocityX)
                velocityY += NEW * (stepY - velocityY)
            }
            pose = person
            seconds = now
            missing = 0.0
        }

        private fun median(values: List<Float>): Double {
            val sorted = values.sorted()
            return (sorted[(sorted.size - 1) / 2].toDouble() + sorted[sorted.size / 2]) / 2
        }
    }

    private var tracks = listOf<Track>()
    private var last: Double? = null
    private var newest = 0

    /** The same [people] with identities; [seconds] is the time of the frame. */
    fun track(people: List<Pose>, seconds: Double): List<Pose> {
        val passed = maxOf(seconds - (last ?: seconds), 0.0)
        last = seconds
        tracks = tracks.filter { seconds - it.seconds <= patienceCovered }
        val expected = tracks.map { it.at(seconds) }
        val owners = matched(expected, people, seconds)
        val found = people.mapIndexed { index, person ->
            owners[index]?.also { it.seen(person, seconds) } ?: Track(++newest, person, seconds)
        }
        val boxes = people.map { it.box() }
        val missed = tracks.filterIndexed { index, track ->
            if (track !in found && !isCovered(expected[index].box(), boxes)) track.missing += passed
            track !in found && track.missing <= patience
        }
        tracks = found + missed
        return people.mapIndexed { index, person -> person.withId(found[index].id) }
    }

    /** Who of those followed is which of the people. */
    private fun matched(expected: List<Pose>, people: List<Pose>, now: Double): List<Track?> {
        val alike = expected.mapIndexed { row, place ->
            // The longer somebody was not seen, the less is known of where they are.
            val reach = 1 + DOUBT * (now - tracks[row].seconds)
            DoubleArray(people.size) { place.similarity(people[it], skeleton, reach) }
        }
        val costs = alike.map { row ->
            DoubleArray(people.size) { if (row[it] >= minSimilarity) 1 - row[it] else IMPOSSIBLE }
        }
        val columns = assign(costs.toTypedArray())
        return people.indices.map { column ->
            val row = columns.indexOf(column)
            tracks.getOrNull(row)?.takeIf { alike[row][column] >= minSimilarity }
        }
    }

    /** Whether half of a box lies in one of [others]. */
    private fun isCovered(box: Box, others: List<Box>): Boolean = others.any { box.shared(it) > 0.5 * box.area }

    private companion object {
        const val MIN_SIMILARITY = 0.3
        const val PATIENCE = 0.4
        const val PATIENCE_COVERED = 2.0
        const val NEW = 0.3
        const val DOUBT = 2.0
        const val IMPOSSIBLE = 1e3
    }
}
