package kerasehrnet

import java.io.File
import java.nio.ByteBuffer
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test

/** The folder that `goldens.py` filled. */
internal val GOLDENS = File(System.getProperty("goldens") ?: "build/goldens")

internal fun list(name: String): List<JSONObject> =
    JSONArray(File(GOLDENS, name).readText()).objects()

internal fun JSONObject.numbers(key: String): DoubleArray =
    getJSONArray(key).let { array -> DoubleArray(array.length()) { array.getDouble(it) } }

internal fun JSONObject.ints(key: String): IntArray =
    getJSONArray(key).let { array -> IntArray(array.length()) { array.getInt(it) } }

internal fun JSONObject.poses(): List<Pose> {
    val rows = getJSONArray("keypoints")
    val scores = numbers("scores")
    return List(rows.length()) { row ->
        val values = rows.getJSONArray(row)
        Pose(FloatArray(values.length()) { values.getDouble(it).toFloat() }, scores[row].toFloat())
    }
}

internal fun JSONObject.region(key: String): Region = numbers(key).let { (x, y, width, height) -> Region(x, y, width, height) }

internal fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

/** Opaque colors of RGB bytes. */
internal fun argb(rgb: IntArray): IntArray = IntArray(rgb.size / 3) {
    (0xff shl 24) or (rgb[3 * it] shl 16) or (rgb[3 * it + 1] shl 8) or rgb[3 * it + 2]
}

internal fun assertSame(context: String, expected: List<Pose>, actual: List<Pose>, pixels: Float, score: Float) {
    assertEquals(context, expected.size, actual.size)
    for ((there, here) in expected.zip(actual)) {
        assertEquals(context, there.score, here.score, score)
        for (joint in 0 until there.size) {
            assertEquals("$context, x of joint $joint", there.x(joint), here.x(joint), pixels)
            assertEquals("$context, y of joint $joint", there.y(joint), here.y(joint), pixels)
            assertEquals("$context, score of joint $joint", there.score(joint), here.score(joint), score)
        }
    }
}

internal fun refused(message: String, action: () -> Unit) {
    try {
        action()
    } catch (error: PoseException) {
        assertTrue("${error.message}", message in error.message!!)
        return
    }
    fail("not refused: $message")
}

internal fun model(name: String): ByteBuffer = ByteBuffer.wrap(File(GOLDENS, name).readBytes())

class PosesTest {
    @Test
    fun everyLayoutGivesThePeopleOfPython() {
        var people = 0
        for (case in list("decoded.json")) {
            val file = case.getString("file")
            val metadata = Metadata.read(model(file))
            val (width, height) = case.ints("image").toList()
            val output = case.numbers("output")
            val letterbox = Letterbox.of(width, height, metadata)
            val found = Decoder(metadata).people(FloatArray(output.size) { output[it].toFloat() }, letterbox)
            assertSame(file, case.poses(), found, 2e-3f, 1e-5f)
            people += found.size
        }
        assertTrue("only $people people to compare", people > 100)
    }

    @Test
    fun metadataAreThoseOfTheFile() {
        val metadata = Metadata.read(model("tagged peaks-0.tflite"))
        assertEquals("coco_17", metadata.skeleton.name)
        assertEquals("left_shoulder", metadata.skeleton.jointNames[5])
        assertEquals(192 to 256, metadata.inputWidth to metadata.inputHeight)
        assertTrue(metadata.multiPerson && !metadata.floatInput)
    }

    @Test
    fun picturesEnterTheNetworkAsInPython() {
        for (case in list("letterboxes.json")) {
            val (width, height, inputWidth, inputHeight) = case.ints("sizes").toList()
            val region = if (case.isNull("region")) Region.whole(width, height) else case.region("region")
            val letterbox = Letterbox(width, height, inputWidth, inputHeight, region)
            val pixels = letterbox.pixels(argb(case.ints("image")))
            val bytes = case.ints("input").map { it.toByte() }.toByteArray()
            assertArrayEquals("$width x $height, as OpenCV 5 has it", bytes, pixels)
            val (x0, y0, x1, y1) = case.numbers("corners").toList()
            assertEquals(x0, letterbox.imageX(0.0).toDouble(), 1e-3)
            assertEquals(y0, letterbox.imageY(0.0).toDouble(), 1e-3)
            assertEquals(x1, letterbox.imageX(inputWidth / 3.0).toDouble(), 1e-3)
            assertEquals(y1, letterbox.imageY(inputHeight / 2.0).toDouble(), 1e-3)
        }
    }

    @Test
    fun peopleAreFollowedAsInPython() {
        val walk = JSONObject(File(GOLDENS, "walk.json").readText())
        val sigmas = walk.numbers("sigmas")
        val skeleton = Skeleton("walkers", sigmas.map { "" }, listOf(), sigmas, IntArray(sigmas.size) { it })
        val tracker = Tracker(skeleton)
        val frames = walk.getJSONArray("frames")
        val seen = HashSet<Int>()
        for (index in 0 until frames.length()) {
            val frame = frames.getJSONObject(index)
            val ids = tracker.track(frame.poses(), frame.getDouble("seconds")).map { it.id }.toIntArray()
            assertArrayEquals("frame $index", frame.ints("ids"), ids)
            seen.addAll(ids.toList())
        }
        assertTrue("identities end and begin: $seen", seen.size > 4)
    }

    @Test
    fun assignmentCostsTheLeast() {
        assertArrayEquals(intArrayOf(1, 0), assign(arrayOf(doubleArrayOf(1.0, 2.0), doubleArrayOf(1.0, 5.0))))
        assertArrayEquals(intArrayOf(-1, 0, -1), assign(Array(3) { doubleArrayOf(if (it == 1) 0.0 else 1.0) }))
        assertArrayEquals(intArrayOf(-1, -1), assign(Array(2) { DoubleArray(0) }))
    }

    @Test
    fun mistakesAreSaidInASentence() {
        val whole = File(GOLDENS, "people-0.tflite").readBytes()
        val text = JSONObject(String(whole, Charsets.UTF_8).substringAfter("metadata.json").substringBefore("\n}\n") + "\n}")
        refused("did not write it, or its end is missing") { Metadata.read(ByteBuffer.wrap(whole.copyOf(whole.size / 2))) }
        for (size in whole.indices) {
            refused("Received: ") { Metadata.read(ByteBuffer.wrap(whole.copyOf(size))) }
        }
        refused("did not write it") { Metadata.read(ByteBuffer.wrap(ByteArray(0))) }
        refused("did not write it") { Metadata.read(ByteBuffer.wrap(ByteArray(5000) { 'P'.toByte() })) }
        refused("another program's") { Metadata.parse("{}") }
        refused("another program's") { Metadata.parse("labels") }
        refused("a later version") { Metadata.parse(JSONObject(text.toString()).put("format", 99).toString()) }
        refused("--decode poses or peaks") { Metadata.parse(JSONObject(text.toString()).put("decode", "none").toString()) }
        val metadata = Metadata.parse(text.toString())
        refused("numbers. Received: 3") { Decoder(metadata).people(FloatArray(3), Letterbox(9, 9, 192, 256)) }
        refused("Sizes must be positive") { Letterbox(0, 9, 192, 256) }
        refused("A picture of 9x9") { Letterbox(9, 9, 192, 256).pixels(IntArray(80)) }
    }
}
