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
            val (file, least) = File(case.getString("model")) to case.getDouble("least")
            val metadata = metadata(file)
            val second = if (case.isNull("refine")) null else File(case.getString("refine"))
            val expected = case.poses()
            assertTrue("somebody is in the photograph", expected.isNotEmpty())
            val finder = Finder(metadata, second?.let { finder(it) }, minScore = least, run = running(file))
            val own = finder.people(colors, width, height)
            // Boxes in single precision are off by a rounding, and some bytes of what is cut out by one.
            val (pixels, score) = if (second == null) Pair(1e-2f, 1e-3f) else Pair(1f, 1e-2f)
            assertSame("$file, ${second ?: "alone"}, pixels of our own", expected, own, pixels, score)
            println(
                "${file.name}, ${second?.let { "refined by ${it.name}" } ?: "alone"}: ${expected.size} found, farthest " +
                    "joint ${farthest(expected, own)} px from Python's"
            )
            if (second != null) continue
            val input = case.ints("input").map { it.toByte() }.toByteArray()
            val letterbox = Letterbox.of(width, height, metadata)
            val same = Decoder(metadata, minScore = least).people(running(file)(input), letterbox)
            assertSame("$file, Python's pixels", expected, same, 1e-2f, 1e-3f)
        }
    }

    private fun metadata(file: File): Metadata = Metadata.read(ByteBuffer.wrap(file.readBytes()))

    private fun running(file: File): (ByteArray) -> FloatArray = LiteRt(File(LIBRARY!!), file)::run

    private fun finder(file: File): Finder = Finder(metadata(file), run = running(file))

    private fun farthest(expected: List<Pose>, found: List<Pose>): Float = expected.zip(found).flatMap { (there, here) ->
        (0 until there.size).map { maxOf(Math.abs(there.x(it) - here.x(it)), Math.abs(there.y(it) - here.y(it))) }
    }.reduce { one, other -> maxOf(one, other) }

    private companion object {
        val LIBRARY: String? = System.getProperty("litert")
    }
}
