package kerasehrnet

import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** The second look at everyone, as Python takes it. */
class FinderTest {
    private val goldens = JSONObject(File(GOLDENS, "refining.json").readText())

    @Test
    fun numbersAreThoseOfPython() {
        val own = mapOf<String, Number>(
            "SEEN" to Refining.SEEN,
            "FOUND_MARGIN" to Refining.FOUND_MARGIN,
            "PLACED_MARGIN" to Refining.PLACED_MARGIN,
            "LEFT_MARGIN" to Refining.LEFT_MARGIN,
            "LEFT_SEEN" to Refining.LEFT_SEEN,
            "FEWEST_LEFT" to Refining.FEWEST_LEFT,
            "EXPLAINED" to Refining.EXPLAINED,
            "SMALLEST_REFINED" to Refining.SMALLEST_REFINED,
            "SURE_ENOUGH" to Refining.SURE_ENOUGH,
            "ROUNDS" to Refining.ROUNDS,
            "HOPELESS" to Refining.HOPELESS,
            "AT_REST" to Refining.AT_REST,
            "SAME_PERSON" to Refining.SAME_PERSON,
            "DOUBTED" to Refining.DOUBTED,
            "BOX_MARGIN" to Refining.BOX_MARGIN,
            "SMALLEST_REGION" to Refining.SMALLEST_REGION
        )
        val numbers = goldens.getJSONObject("numbers")
        assertEquals(numbers.keys().asSequence().toSet(), own.keys)
        for ((name, value) in own) assertEquals(name, numbers.getDouble(name), value.toDouble(), 1e-7)
    }

    @Test
    fun everyoneIsLookedAtWhereAndAsOftenAsInPython() {
        val (width, height) = goldens.ints("size").toList()
        val sigmas = goldens.numbers("sigmas")
        val order = IntArray(sigmas.size) { it }
        // Left and right are known; who changes places is for [Finder], which gives people as they are.
        val skeleton = Skeleton("seen", sigmas.map { "" }, listOf(), sigmas, order, order.reversedArray())
        var looks = 0
        for ((number, case) in goldens.getJSONArray("cases").objects().withIndex()) {
            val left = case.getJSONArray("looks").objects().toMutableList()
            looks += left.size
            val refined = Refining.refined(
                people(case, "people"), skeleton, width, height, goldens.getDouble("min_score")
            ) { region, mirrored ->
                val look = left.firstOrNull {
                    it.getBoolean("mirrored") == mirrored && apart(it.region("region"), region) < 1e-2
                }
                assertTrue("case $number: Python does not look at ${region.x}, ${region.y}", look != null)
                left.remove(look)
                pose(look!!)
            }
            assertEquals("case $number: looks that were not taken", 0, left.size)
            assertSame("case $number", people(case, "refined"), refined, 1e-3f, 1e-6f)
        }
        assertTrue("only $looks looks to compare", looks > 100)
    }

    @Test
    fun modelsThatDoNotGoTogetherAreRefused() {
        val several = Finder(Metadata.read(model("people-0.tflite"))) { FloatArray(0) }
        val ofOtherJoints = Finder(Metadata.read(model("person-0.tflite"))) { FloatArray(0) }
        refused("one person at a time. Received: people") { Finder(several.metadata, several) { FloatArray(0) } }
        refused("the same joints. Received: people with coco_17 and refine=person with mpii_16") {
            Finder(several.metadata, ofOtherJoints) { FloatArray(0) }
        }
    }

    private fun apart(one: Region, other: Region): Double = listOf(
        one.x - other.x, one.y - other.y, one.width - other.width, one.height - other.height
    ).map { Math.abs(it) }.max()!!

    private fun people(case: JSONObject, key: String): List<Pose> = case.getJSONArray(key).objects().map { pose(it) }

    private fun pose(person: JSONObject): Pose = person.numbers("keypoints").let { values ->
        Pose(FloatArray(values.size) { values[it].toFloat() }, person.getDouble("score").toFloat())
    }
}
