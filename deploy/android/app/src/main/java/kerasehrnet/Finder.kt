package kerasehrnet

/**
 * People in pictures by a model, and perhaps by a second one that looks at everyone again, as `PosePredictor` does in
 * Python: the one file finds people, the other places the joints of each anew, in a crop of their own.
 *
 *     val second = Finder(Metadata.read(single)) { runSingle(it) }
 *     val people = Finder(Metadata.read(several), refine = second) { runSeveral(it) }.people(argb, width, height)
 *
 * @param metadata what the model's file says.
 * @param refine looks again: a model for one person at a time, with the same joints.
 * @param minScore score below which there is nobody.
 * @param run whatever runs the model: bytes of its input, see [Letterbox.pixels], to all of its output.
 * @throws PoseException if the second model cannot place the people of the first.
 */
class Finder(
    val metadata: Metadata,
    private val refine: Finder? = null,
    private val maxPeople: Int = 30,
    private val minScore: Double = metadata.minScore,
    private val run: (ByteArray) -> FloatArray
) {
    private val decoder = Decoder(metadata, maxPeople, minScore)

    init {
        val second = refine?.metadata
        if (second != null && second.multiPerson) {
            throw PoseException("refine takes a model for one person at a time. Received: ${second.name}")
        }
        if (second != null && second.skeleton.jointNames != metadata.skeleton.jointNames) {
            throw PoseException(
                "Both models must have the same joints. Received: ${metadata.name} with ${metadata.skeleton.name} and " +
                    "refine=${second.name} with ${second.skeleton.name}"
            )
        }
    }

    /** People in a picture of [width] x [height] colors, as `Bitmap.getPixels` gives them, the best first. */
    fun people(argb: IntArray, width: Int, height: Int): List<Pose> {
        val whole = Letterbox.of(width, height, metadata)
        if (refine == null) return decoder.people(run(whole.pixels(argb)), whole)
        val found = Refining.refined(anybody(argb, whole), metadata.skeleton, width, height, minScore) { region, mirrored ->
            refine.anybody(argb, Letterbox.of(width, height, refine.metadata, region), mirrored).first()
        }
        return found.filter { it.score >= minScore }.map { it.inside(width, height) }
    }

    private fun anybody(argb: IntArray, letterbox: Letterbox, mirrored: Boolean = false): List<Pose> {
        val pixels = letterbox.pixels(argb)
        if (!mirrored) return decoder.anybody(run(pixels), letterbox)
        val middle = letterbox.imageX(letterbox.inputWidth / 2.0)
        return decoder.anybody(run(letterbox.mirrored(pixels)), letterbox).map { it.upright(middle, metadata.skeleton) }
    }
}

/** The second look, whatever takes it; the numbers are those of the Python package, which says how they were chosen. */
internal object Refining {
    /** Joints below this score do not count for the box around a person. */
    const val SEEN = 0.1f

    /** A person's box reaches further than the joints that the first model found, by this part of their extent on each side, */
    const val FOUND_MARGIN = 0.3f

    /** and by this part than those that the second model has placed. */
    const val PLACED_MARGIN = 0.15f

    /**
     * Joints that the first model took for a person's, where the second has placed nobody's, may be somebody else's: the box
     * around them reaches so much further;
     */
    const val LEFT_MARGIN = 1.2f

    /** joints below this score do not count for it, */
    const val LEFT_SEEN = 0.05f

    /** nor fewer of them than these. */
    const val FEWEST_LEFT = 2

    /** What a joint must add to the object keypoint similarity with somebody who is placed to be theirs. */
    const val EXPLAINED = 0.1

    /** Pixels. Whoever is smaller is not looked at again. */
    const val SMALLEST_REFINED = 8f

    /** The second model's joints are taken if their score is at least this part of the first's. */
    const val SURE_ENOUGH = 0.3f

    /** The crop follows the joints that were found in it, so many times at most. */
    const val ROUNDS = 2

    /** Whoever has less than this part of the score from which on there is somebody is not looked at any more. */
    const val HOPELESS = 0.5

    /** Intersection over union of a person's boxes from which on another look would show the same. */
    const val AT_REST = 0.9

    /** Object keypoint similarity above which two results are one person, found twice. */
    const val SAME_PERSON = 0.7

    /** Where the mirror image shows a joint elsewhere, the surer of both places has this part of its score. */
    const val DOUBTED = 0.4f

    /** What is shown of a person is larger than the box by this factor, */
    const val BOX_MARGIN = 1.25

    /** and no side of it is below this, in pixels. */
    const val SMALLEST_REGION = 16.0

    /**
     * Everyone placed anew in their own crop, where that leaves them sure enough, and nobody twice; the best first. Whoever
     * was taken together with another is found around the joints that are left over.
     *
     * Where nobody of at least [minScore] is found, the whole picture may be one person. Everyone is looked at in the mirror
     * image, too, if the skeleton knows left and right.
     *
     * @param people of a picture of [width] x [height] pixels, none left out for a low score.
     * @param look the one person in a region of the picture, as the mirror image shows them or not.
     */
    fun refined(
        people: List<Pose>,
        skeleton: Skeleton,
        width: Int,
        height: Int,
        minScore: Double,
        look: (Region, Boolean) -> Pose
    ): List<Pose> {
        val least = (HOPELESS * minScore).toFloat()
        val placed = distinct(people.map { followed(it, boxOfJoints(it, FOUND_MARGIN), least, look) }, skeleton)
        val rest = leftOver(people, placed, skeleton).map { followed(it, boxOfLeft(it), least, look) }
        val everyone = distinct(distinct(placed + rest, skeleton).map { mirrored(it, skeleton, least, look) }, skeleton)
        if (everyone.any { it.score >= minScore }) return everyone
        val whole = look(shown(Box(0f, 0f, width.toFloat(), height.toFloat())), false)
        return listOf(mirrored(followed(whole, boxOfJoints(whole, FOUND_MARGIN), least, look), skeleton, least, look))
    }

    /** Joints that nobody who is placed explains, as people of whom nothing else is known: any other is surer. */
    private fun leftOver(people: List<Pose>, placed: List<Pose>, skeleton: Skeleton): List<Pose> = people.map { person ->
        val alike = placed.map { it.jointSimilarity(person, skeleton) }
        person.part { joint -> person.score(joint) > LEFT_SEEN && alike.none { it[joint] > EXPLAINED } }
    }.filter { left -> (0 until left.size).count { left.score(it) > 0 } >= FEWEST_LEFT && isLargeEnough(boxOfLeft(left)) }

    /** A person as the crop shows them that follows their joints, beginning with a box. */
    private fun followed(found: Pose, first: Box, least: Float, look: (Region, Boolean) -> Pose): Pose {
        var person = found
        var box = first
        for (round in 1..ROUNDS) {
            if (!isLargeEnough(box)) break
            val anew = look(shown(box), false)
            if (!(anew.score >= SURE_ENOUGH * person.score)) break
            person = anew
            val moved = boxOfJoints(person, PLACED_MARGIN)
            if (overlap(moved, box) >= AT_REST || person.score < least) break
            box = moved
        }
        return person
    }

    /** Somebody by the picture and its mirror image together: errors of the one are seldom those of the other. */
    private fun mirrored(once: Pose, skeleton: Skeleton, least: Float, look: (Region, Boolean) -> Pose): Pose {
        val box = boxOfJoints(once, PLACED_MARGIN)
        if (!skeleton.knowsSides || !isLargeEnough(box) || once.score < least) return once
        val twice = look(shown(box), true)
        if (!(twice.score >= SURE_ENOUGH * once.score)) return once
        val likeness = once.jointSimilarity(twice, skeleton)
        val keypoints = FloatArray(3 * once.size)
        for (joint in 0 until once.size) {
            val surer = if (once.score(joint) >= twice.score(joint)) once else twice
            val both = maxOf(once.score(joint) + twice.score(joint), 1e-9f)
            val mixed = { mean: Float, doubted: Float ->
                (likeness[joint] * mean + (1 - likeness[joint]) * doubted).toFloat()
            }
            val between = { from: Float, to: Float -> (once.score(joint) * from + twice.score(joint) * to) / both }
            keypoints[3 * joint] = mixed(between(once.x(joint), twice.x(joint)), surer.x(joint))
            keypoints[3 * joint + 1] = mixed(between(once.y(joint), twice.y(joint)), surer.y(joint))
            keypoints[3 * joint + 2] = mixed(both / 2, DOUBTED * surer.score(joint))
        }
        val score = (0 until once.size).map { keypoints[3 * it + 2].toDouble() }.average()
        return Pose(keypoints, score.toFloat(), once.id)
    }

    /** The people without those who are the same as a surer one. */
    fun distinct(people: List<Pose>, skeleton: Skeleton): List<Pose> {
        val kept = ArrayList<Pose>()
        for (person in people.sortedByDescending { it.score }) {
            if (kept.none { it.similarity(person, skeleton) > SAME_PERSON }) kept.add(person)
        }
        return kept
    }

    private fun isLargeEnough(box: Box): Boolean = minOf(box.width, box.height) >= SMALLEST_REFINED

    private fun boxOfLeft(pose: Pose): Box = boxOfJoints(pose, LEFT_MARGIN, LEFT_SEEN)

    /** Joints end before heads, hands and feet do. */
    private fun boxOfJoints(pose: Pose, margin: Float, seenAbove: Float = SEEN): Box {
        val all = (0 until pose.size).toList()
        val seen = all.filter { pose.score(it) > seenAbove }
        val joints = Box.around(pose, if (seen.size > 1) seen else all)
        val least = maxOf(joints.width, joints.height) / 3
        val aside = margin * maxOf(joints.width, least)
        val above = margin * maxOf(joints.height, least)
        return Box(joints.left - aside, joints.top - above, joints.right + aside, joints.bottom + above)
    }

    /** What is shown of a person: the box, a little larger. */
    private fun shown(box: Box): Region = Region(
        (box.left.toDouble() + box.right) / 2,
        (box.top.toDouble() + box.bottom) / 2,
        maxOf(BOX_MARGIN * (box.right.toDouble() - box.left), SMALLEST_REGION),
        maxOf(BOX_MARGIN * (box.bottom.toDouble() - box.top), SMALLEST_REGION)
    )

    private fun overlap(first: Box, second: Box): Double {
        val shared = first.shared(second)
        return shared / maxOf(first.area + second.area - shared, 1e-9)
    }
}
