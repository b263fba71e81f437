package kerasehrnet

import java.io.File
import java.nio.ByteBuffer
import org.json.JSONObject
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeNotNull
import org.junit.Test

/** The weights of the package, run by LiteRT on the JVM, find in a photograph whom Python finds there. */
class InferenceTest {
    @Test
    fun peopleInAPhotograph() {
        assumeNotNull("LiteRT's library is named by -Dlitert", LIBRARY)
        val photo = JSONObject(File(GOLDENS, "photo.json").readText())
        val (width, height) = photo.ints("sizes").toList()
        val colors = argb(photo.ints("rgb"))
        for (case in list("inference.json")) {
            val file = File(case.getString("model"))
            val metadata = Metadata.read(ByteBuffer.wrap(file.readBytes()))
            val letterbox = Letterbox.of(width, height, metadata)
            val network = LiteRt(File(LIBRARY!!), file)
            val decoder = Decoder(metadata, minScore = case.getDouble("least"))
            val pixels = case.ints("input").map { it.toByte() }.toByteArray()
            val expected = case.poses()
            assertTrue("somebody is in the photograph", expected.isNotEmpty())
            val same = decoder.people(network.run(pixels), letterbox)
            assertSame("${file.name}, Python's pixels", expected, same, 1e-2f, 1e-3f)
            val own = decoder.people(network.run(letterbox.pixels(colors)), letterbox)
            assertSame("${file.name}, pixels of our own", expected, own, 1e-2f, 1e-3f)
            println(
                "${file.name}: ${expected.size} found, farthest joint ${farthest(expected, same)} px from Python's " +
                    "on the same pixels, ${farthest(expected, own)} px on pixels of our own"
            )
        }
    }

    private fun farthest(expected: List<Pose>, found: List<Pose>): Float = expected.zip(found).flatMap { (there, here) ->
        (0 until there.size).map { maxOf(Math.abs(there.x(it) - here.x(it)), Math.abs(there.y(it) - here.y(it))) }
    }.reduce { one, other -> maxOf(one, other) }

    private companion object {
        val LIBRARY: String? = System.getProperty("litert")
    }
}
