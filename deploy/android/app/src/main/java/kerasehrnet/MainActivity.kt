package kerasehrnet

import android.Manifest
import android.graphics.Bitmap
import android.graphics.Matrix
import android.os.Bundle
import android.widget.Toast
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.core.content.ContextCompat
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.util.concurrent.Executors

/** The camera, and the people whom it sees. A tap switches between one look at the picture and a second look at everyone. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var view: PoseView
    private var network: PoseNetwork? = null
    private var tracker: Tracker? = null
    private var looksAgain = false

    private val permission = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) start() else say("People are found in the camera's pictures: allow the camera in the settings.")
    }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        view = PoseView(this)
        setContentView(view)
        permission.launch(Manifest.permission.CAMERA)
    }

    override fun onDestroy() {
        worker.execute { network?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun start() {
        worker.execute { open() }
        view.setOnClickListener {
            worker.execute {
                looksAgain = !looksAgain
                open()
            }
        }
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener(Runnable { watch(provider.get()) }, ContextCompat.getMainExecutor(this))
    }

    /** Makes the network on the thread that runs it, which the GPU asks for. */
    private fun open() {
        network?.close()
        network = null
        try {
            val second = if (looksAgain) PoseNetwork(asset(REFINE), ACCELERATOR) else null
            network = PoseNetwork(asset(MODEL), ACCELERATOR, refine = second).also { tracker = Tracker(it.metadata.skeleton) }
            runOnUiThread { say(if (looksAgain) "Everyone is looked at again: exact." else "One look: fast.") }
        } catch (error: PoseException) {
            runOnUiThread { say(error.message ?: "The model cannot be used.") }
        }
    }

    private fun watch(provider: ProcessCameraProvider) {
        val analysis = ImageAnalysis.Builder()
            .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
            .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
            .build()
        analysis.setAnalyzer(worker, ImageAnalysis.Analyzer { frame -> frame.use { look(it) } })
        try {
            provider.unbindAll()
            provider.bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, analysis)
        } catch (error: IllegalArgumentException) {
            say("This device has no camera at its back. Received: ${error.message}")
        }
    }

    private fun look(frame: ImageProxy) {
        val network = network ?: return
        val picture = upright(frame)
        val colors = IntArray(picture.width * picture.height)
        picture.getPixels(colors, 0, picture.width, 0, 0, picture.width, picture.height)
        val seconds = frame.imageInfo.timestamp / 1e9
        val people = tracker!!.track(network.people(colors, picture.width, picture.height), seconds)
        runOnUiThread { view.show(picture, people, network.metadata.skeleton) }
    }

    private fun upright(frame: ImageProxy): Bitmap {
        val picture = frame.toBitmap()
        val turn = Matrix().apply { postRotate(frame.imageInfo.rotationDegrees.toFloat()) }
        return Bitmap.createBitmap(picture, 0, 0, picture.width, picture.height, turn, true)
    }

    private fun asset(name: String): ByteBuffer = assets.openFd(name).use { asset ->
        FileInputStream(asset.fileDescriptor).channel.use {
            it.map(FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength)
        }
    }

    private fun say(message: String) = Toast.makeText(this, message, Toast.LENGTH_LONG).show()

    private companion object {
        const val MODEL = "efficientpose-rt-people.tflite"
        const val REFINE = "efficientpose-i-coco.tflite"
        val ACCELERATOR = Accelerator.CPU
    }
}
