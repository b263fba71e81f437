package kerasehrnet

import java.io.File
import java.nio.ByteBuffer
import javax.imageio.ImageIO
import org.json.JSONArray
import org.json.JSONObject

/**
 * People in pictures as the JVM finds them, for tests/test_one_answer.py: LIBRARY FOLDER.
 *
 * FOLDER/jobs.json is a list of networks and pictures, paths of files; FOLDER/jvm.json receives the keypoints of the
 * people in each. Only LiteRT's networks are run.
 */
fun main(arguments: Array<String>) {
    val (library, folder) = arguments
    val jobs = JSONArray(File(folder, "jobs.json").readText())
    val networks = HashMap<File, LiteRt>()
    val answers = JSONArray()
    for (job in (0 until jobs.length()).map { jobs.getJSONObject(it) }) {
        val file = File(job.getString("network"))
        answers.put(if (file.extension == "tflite") people(job, file, networks.getOrPut(file) { LiteRt(File(library), file) }) else JSONObject.NULL)
    }
    File(folder, "jvm.json").writeText(answers.toString())
}

private fun people(job: JSONObject, file: File, network: LiteRt): JSONArray {
    val picture = ImageIO.read(File(job.getString("picture")))
    val colors = picture.getRGB(0, 0, picture.width, picture.height, null, 0, picture.width)
    val metadata = Metadata.read(ByteBuffer.wrap(file.readBytes()))
    val letterbox = Letterbox.of(picture.width, picture.height, metadata)
    val found = Decoder(metadata, minScore = 0.0).people(network.run(letterbox.pixels(colors)), letterbox)
    return JSONArray(found.map { pose ->
        JSONArray((0 until pose.size).map { JSONArray(listOf(pose.x(it).toDouble(), pose.y(it).toDouble(), pose.score(it).toDouble())) })
    })
}
