/**
 * People from the output of a model that `keras-ehrnet export ... --decode poses` (or `peaks`) wrote.
 *
 * Pure Kotlin and org.json: nothing here needs Android or an interpreter, and all of it is tested against Python.
 * [Finder] does these steps for a picture, and looks at everyone again with a second model.
 *
 *     val metadata = Metadata.read(model)                              // model: ByteBuffer of the .tflite
 *     val letterbox = Letterbox.of(width, height, metadata)
 *     interpreter.run(ByteBuffer.wrap(letterbox.pixels(argb)), output) // argb: Bitmap.getPixels
 *     val people = Decoder(metadata).people(floats, letterbox)         // in pixels of the picture
 */
package kerasehrnet

import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipException
import java.util.zip.ZipInputStream
import kotlin.math.exp
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** A model or an array that cannot be used; the message is for users. */
class PoseException(message: String) : IllegalArgumentException(message)

/** What the joints of a pose are called, and how they hang together. */
class Skeleton(
    val name: String,
    val jointNames: List<String>,
    val limbs: List<Pair<Int, Int>>,
    /** Constants of the object keypoint similarity, one per joint. */
    val sigmas: DoubleArray,
    /** Order in which joints become people: torso and head first. */
    val groupingOrder: IntArray,
    /** For every joint the one it becomes when the picture is mirrored; as it is where left and right are not known. */
    val flipPermutation: IntArray = IntArray(jointNames.size) { it }
) {
    val size: Int get() = jointNames.size

    /** Whether left and right are known. */
    val knowsSides: Boolean get() = flipPermutation.indices.any { flipPermutation[it] != it }
}

/** A person. Joint k is at (`x(k)`, `y(k)`), in pixels of the picture, pixel centers at +0.5. */
class Pose(private val keypoints: FloatArray, val score: Float, val id: Int = 0) {
    val size: Int get() = keypoints.size / 3

    fun x(joint: Int): Float = keypoints[3 * joint]

    fun y(joint: Int): Float = keypoints[3 * joint + 1]

    /** How sure the network is of a joint, in [0, 1]; at 0 it was not found. */
    fun score(joint: Int): Float = keypoints[3 * joint + 2]

    fun withId(id: Int): Pose = Pose(keypoints, score, id)

    /** Joints of a person of whom nothing else is known; the others are not found. */
    fun part(isKept: (Int) -> Boolean): Pose = Pose(FloatArray(keypoints.size) { if (isKept(it / 3)) keypoints[it] else 0f }, 0f)

    /** The same person a step further: ([x], [y]) pixels. */
    fun moved(x: Float, y: Float): Pose =
        Pose(FloatArray(keypoints.size) { keypoints[it] + when (it % 3) { 0 -> x; 1 -> y; else -> 0f } }, score, id)

    /** The same person as they are, seen in the mirror image of a picture: mirrored about an x, left for right. */
    fun upright(middle: Float, skeleton: Skeleton): Pose = Pose(
        FloatArray(keypoints.size) {
            val value = keypoints[3 * skeleton.flipPermutation[it / 3] + it % 3]
            if (it % 3 == 0) 2 * middle - value else value
        },
        score,
        id
    )

    /** The same person with no joint outside a picture: networks see what is beyond it too, and sometimes find joints there. */
    fun inside(width: Int, height: Int): Pose = Pose(
        FloatArray(keypoints.size) {
            when (it % 3) {
                0 -> keypoints[it].coerceIn(0f, width.toFloat())
                1 -> keypoints[it].coerceIn(0f, height.toFloat())
                else -> keypoints[it]
            }
        },
        score,
        id
    )

    /** The box of the joints that were found; without area where there are none. */
    fun box(): Box = Box.around(this, (0 until size).filter { score(it) > 0 })

    /** Object keypoint similarity (OKS), in [0, 1], over the joints that both have; they may be [reach] times as far apart. */
    fun similarity(other: Pose, skeleton: Skeleton, reach: Double = 1.0): Double {
        val shared = (0 until size).count { score(it) > 0 && other.score(it) > 0 }
        return jointSimilarity(other, skeleton, reach).sum() / maxOf(shared, 1)
    }

    /** What each joint adds to [similarity]; 0 where one of the two lacks the joint. */
    fun jointSimilarity(other: Pose, skeleton: Skeleton, reach: Double = 1.0): List<Double> {
        // COCO takes the area of the outline, which is roughly half of the box.
        val area = maxOf(0.5 * box().area, 1.0) * reach * reach
        return (0 until size).map { joint ->
            val dx = (x(joint) - other.x(joint)).toDouble()
            val dy = (y(joint) - other.y(joint)).toDouble()
            val limit = 2 * skeleton.sigmas[joint]
            val isShared = score(joint) > 0 && other.score(joint) > 0
            if (isShared) exp(-(dx * dx + dy * dy) / (2 * area * limit * limit)) else 0.0
        }
    }
}

/** The place of a person, in pixels of the picture. */
class Box(val left: Float, val top: Float, val right: Float, val bottom: Float) {
    val width: Float get() = right - left
    val height: Float get() = bottom - top
    val area: Double get() = width.toDouble() * height

    /** Area that lies in [other] too. */
    fun shared(other: Box): Double {
        val across = minOf(right, other.right) - maxOf(left, other.left)
        val down = minOf(bottom, other.bottom) - maxOf(top, other.top)
        return maxOf(across, 0f).toDouble() * maxOf(down, 0f)
    }

    companion object {
        /** The box of some of a person's joints. */
        fun around(pose: Pose, joints: List<Int>): Box {
            if (joints.isEmpty()) return Box(0f, 0f, 0f, 0f)
            val xs = joints.map { pose.x(it) }.sorted()
            val ys = joints.map { pose.y(it) }.sorted()
            return Box(xs.first(), ys.first(), xs.last(), ys.last())
        }
    }
}

/** What a model's file says about itself. */
class Metadata(
    val name: String,
    val skeleton: Skeleton,
    val inputWidth: Int,
    val inputHeight: Int,
    /** Whether the input takes floats in [0, 255] rather than bytes. */
    val floatInput: Boolean,
    /** `"peaks"` or `"poses"`. */
    val decode: String,
    val multiPerson: Boolean,
    val outputShape: IntArray,
    /** Score of a person below which there is nobody. */
    val minScore: Double
) {
    companion object {
        private const val FORMAT = 2
        private const val FILE_NAME = "metadata.json"
        private const val END_SIGNATURE = 0x06054b50
        private const val END_SIZE = 22
        private const val ENTRY_SIZE = 46
        private const val MOST_COMMENT = 0xffff
        private const val DEFAULT_SIGMA = 0.08

        /** The metadata in the archive behind a `.tflite` model; [PoseException] if there are none to read. */
        fun read(model: ByteBuffer): Metadata {
            val text = try {
                member(model.duplicate().order(ByteOrder.LITTLE_ENDIAN))
            } catch (error: ZipException) {
                throw PoseException("The model's metadata are damaged: copy the file again. Received: ${error.message}")
            }
            return parse(
                text ?: throw PoseException(
                    "This model does not say how its output becomes people: keras-ehrnet did not write it, or its " +
                        "end is missing. Copy it again, or export it with keras-ehrnet export --decode poses. " +
                        "Received: ${model.limit()} bytes without $FILE_NAME"
                )
            )
        }

        /** The metadata of a JSON text. */
        fun parse(text: String): Metadata = try {
            parsed(JSONObject(text))
        } catch (error: JSONException) {
            throw PoseException(
                "The text of the model's metadata is damaged, or another program's: export the model again. " +
                    "Received: ${error.message}"
            )
        }

        private fun parsed(content: JSONObject): Metadata {
            val format = content.getInt("format")
            if (format > FORMAT) {
                throw PoseException(
                    "The model was exported by a later version of keras-ehrnet (${content.optString("package")}): " +
                        "take Poses.kt from there. Received: metadata of format $format, known up to $FORMAT"
                )
            }
            val decode = content.getString("decode")
            if (decode != "peaks" && decode != "poses") {
                throw PoseException(
                    "Poses.kt reads models that decode by themselves: export with --decode poses or peaks. " +
                        "Received: decode=$decode"
                )
            }
            val input = content.getJSONObject("input")
            val groups = content.getString("family") == "efficienthrnet"
            return Metadata(
                name = content.getString("name"),
                skeleton = skeleton(content.getJSONObject("skeleton")),
                inputWidth = input.getInt("width"),
                inputHeight = input.getInt("height"),
                floatInput = input.getString("dtype") == "float32",
                decode = decode,
                multiPerson = content.getJSONObject("decoder").optBoolean("multi_person", groups),
                outputShape = ints(content.getJSONArray("outputs").getJSONObject(0).getJSONArray("shape")),
                minScore = content.optDouble("min_score", 0.0)
            )
        }

        private fun skeleton(content: JSONObject): Skeleton {
            val names = content.getJSONArray("joint_names")
            val limbs = content.getJSONArray("limbs")
            val sigmas = content.optJSONArray("sigmas")
            return Skeleton(
                content.getString("name"),
                List(names.length()) { names.getString(it) },
                List(limbs.length()) { limbs.getJSONArray(it).getInt(0) to limbs.getJSONArray(it).getInt(1) },
                DoubleArray(names.length()) { sigmas?.getDouble(it) ?: DEFAULT_SIGMA },
                content.optJSONArray("grouping_order")?.let { ints(it) } ?: IntArray(names.length()) { it },
                content.optJSONArray("flip_permutation")?.let { ints(it) } ?: IntArray(names.length()) { it }
            )
        }

        private fun ints(values: JSONArray): IntArray = IntArray(values.length()) { values.getInt(it) }

        /** The archive is found from its end, as it lies behind something else; null if there is none, or no text. */
        private fun member(file: ByteBuffer): String? {
            val last = file.limit() - END_SIZE
            val end = (last downTo maxOf(0, last - MOST_COMMENT)).firstOrNull { file.getInt(it) == END_SIGNATURE }
            val directory = file.getInt((end ?: return null) + 16)
            if (directory !in 0..end - ENTRY_SIZE) return null
            val first = file.getInt(directory + 42)
            if (first !in 0 until directory) return null
            val content = ByteArray(file.limit() - first)
            file.position(first)
            file.get(content)
            ZipInputStream(ByteArrayInputStream(content)).use { archive ->
                generateSequence { archive.nextEntry }.firstOrNull { it.name == FILE_NAME } ?: return null
                return archive.readBytes().toString(Charsets.UTF_8)
            }
        }
    }
}

/** People from a model's output, the best first. */
class Decoder(
    private val metadata: Metadata,
    private val maxPeople: Int = 30,
    private val minScore: Double = metadata.minScore
) {
    private val joints = metadata.skeleton.size

    /** People in pixels of the picture. [output]: the model's only output, all of it. */
    fun people(output: FloatArray, letterbox: Letterbox): List<Pose> = anybody(output, letterbox)
        .filter { it.score >= minScore }.map { it.inside(letterbox.imageWidth, letterbox.imageHeight) }

    /** As [people], however low their scores, and their joints where the model puts them, beyond the borders too. */
    fun anybody(output: FloatArray, letterbox: Letterbox): List<Pose> {
        val shape = metadata.outputShape
        if (output.size != shape.fold(1) { product, side -> product * side }) {
            throw PoseException(
                "The output of ${metadata.name} is ${shape.joinToString(" x ")} numbers. Received: ${output.size}"
            )
        }
        val found = when {
            metadata.decode == "peaks" && metadata.multiPerson -> grouped(output)
            metadata.decode == "peaks" -> listOf(person(output, 0, 4 * shape[2]))
            metadata.multiPerson -> rows(output)
            else -> listOf(person(output, 0, 3))
        }
        // The sort is stable: of equals the first stays first.
        return found.sortedByDescending { it.score }.take(maxPeople).map { placed(it, letterbox) }
    }

    /** Until they are placed, x and y are shares of the input. A person's score is the mean of its joints' scores. */
    private fun person(output: FloatArray, start: Int, step: Int, score: Float? = null): Pose {
        val keypoints = FloatArray(3 * joints)
        for (joint in 0 until joints) {
            keypoints[3 * joint] = output[start + joint * step + 1]
            keypoints[3 * joint + 1] = output[start + joint * step]
            keypoints[3 * joint + 2] = output[start + joint * step + 2]
        }
        return Pose(keypoints, score ?: mean(keypoints))
    }

    /** Rows of y, x, score of every joint, then the box and the score of the person; at score 0 it is nobody. */
    private fun rows(output: FloatArray): List<Pose> {
        val size = 3 * joints + 5
        return (0 until output.size / size)
            .map { person(output, it * size, 3, score = output[(it + 1) * size - 1]) }
            .filter { it.score > 0 }
    }

    /** Peaks (joint, rank, [y, x, score, tag]) told apart by their tags: associative embedding, joint by joint. */
    private fun grouped(output: FloatArray): List<Pose> {
        val ranks = metadata.outputShape[2]
        val people = ArrayList<Group>()
        for (joint in metadata.skeleton.groupingOrder) {
            val peaks = (0 until ranks).map { 4 * (joint * ranks + it) }.filter { output[it + 2] > PEAK_THRESHOLD }
            val known = people.take(maxPeople)
            val costs = peaks.map { peak ->
                DoubleArray(known.size) { Math.rint(known[it].distance(output[peak + 3])) * 100 - output[peak + 2] }
            }
            val owners = assign(costs.toTypedArray())
            for ((index, peak) in peaks.withIndex()) {
                val owner = known.getOrNull(owners[index])?.takeIf { it.distance(output[peak + 3]) < TAG_THRESHOLD }
                (owner ?: Group(joints).also { people.add(it) }).add(joint, output, peak)
            }
        }
        return people.map { Pose(it.keypoints, mean(it.keypoints)) }
    }

    private fun placed(pose: Pose, letterbox: Letterbox): Pose {
        val keypoints = FloatArray(3 * joints)
        for (joint in 0 until joints) {
            keypoints[3 * joint] = letterbox.imageX(pose.x(joint).toDouble() * metadata.inputWidth)
            keypoints[3 * joint + 1] = letterbox.imageY(pose.y(joint).toDouble() * metadata.inputHeight)
            keypoints[3 * joint + 2] = pose.score(joint)
        }
        return Pose(keypoints, pose.score)
    }

    private fun mean(keypoints: FloatArray): Float =
        (0 until joints).map { keypoints[3 * it + 2].toDouble() }.average().toFloat()

    /** A person that gathers joints. */
    private class Group(joints: Int) {
        val keypoints = FloatArray(3 * joints)
        private var total = 0.0
        private var size = 0

        fun distance(tag: Float): Double = Math.abs(tag - total / size)

        fun add(joint: Int, output: FloatArray, peak: Int) {
            keypoints[3 * joint] = output[peak + 1]
            keypoints[3 * joint + 1] = output[peak]
            keypoints[3 * joint + 2] = output[peak + 2]
            total += output[peak + 3]
            size++
        }
    }

    private companion object {
        const val PEAK_THRESHOLD = 0.1f
        const val TAG_THRESHOLD = 1.0
    }
}
