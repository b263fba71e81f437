package kerasehrnet

import java.io.File
import java.nio.ByteBuffer
import javax.imageio.ImageIO
import org.json.JSONArray
import org.json.JSONObject

/**
 * People in pictures as the JVM finds them, for tests/test_one_answer.py: LIBRARY FOLDER.
 *
 * FOLDER/jobs.json is a list of networks, those that look again (or null), and pictures, all paths of files;
 * FOLDER/jvm.json receives the keypoints of the people in each. Only LiteRT's networks are run.
 */
fun main(arguments: Array<String>) {
    val (library, folder) = arguments
    val jobs = JSONArray(File(folder, "jobs.json").readText()).objects()
    val networks = HashMap<File, LiteRt>()
    fun finder(file: File, refine: Finder?): Finder {
        val metadata = Metadata.read(ByteBuffer.wrap(file.readBytes()))
        return Finder(metadata, refine, minScore = 0.0, run = networks.getOrPut(file) { LiteRt(File(library), file) }::run)
    }
    val answers = JSONArray()
    for (job in jobs) {
        val file = File(job.getString("network"))
        val refine = if (job.isNull("refine")) null else File(job.getString("refine"))
        val picture = File(job.getString("picture"))
        answers.put(
            if (file.extension == "tflite") people(finder(file, refine?.let { finder(it, null) }), picture) else JSONObject.NULL
        )
    }
    File(folder, "jvm.json").writeText(answers.toString())
}

private fun people(finder: Finder, file: File): JSONArray {
    val picture = ImageIO.read(file)
    val colors = picture.getRGB(0, 0, picture.width, picture.height, null, 0, picture.width)
    return JSONArray(finder.people(colors, picture.width, picture.height).map { pose ->
        JSONArray((0 until pose.size).map { JSONArray(listOf(pose.x(it).toDouble(), pose.y(it).toDouble(), pose.score(it).toDouble())) })
    })
}
