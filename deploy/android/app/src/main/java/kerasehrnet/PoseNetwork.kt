package kerasehrnet

import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.gpu.CompatibilityList
import org.tensorflow.lite.gpu.GpuDelegate
import org.tensorflow.lite.nnapi.NnApiDelegate

/** What computes. */
enum class Accelerator {
    /** The processor, with XNNPACK: works everywhere, and is the one to compare with. */
    CPU,

    /** The graphics processor; what it does not know stays on the CPU, such as decoders. */
    GPU,

    /** Whatever the phone's maker offers. Deprecated since Android 15. */
    NNAPI
}

/**
 * People in pictures: LiteRT's interpreter around a model that decodes by itself.
 *
 * One thread at a time may call it, the same for all calls where it is on the GPU.
 *
 * @param model a direct buffer with all of the `.tflite` file, such as a mapped asset.
 * @param accelerator what computes.
 * @param threads how many the CPU takes.
 * @throws PoseException if the file is none of keras-ehrnet, or the accelerator is not there.
 */
class PoseNetwork(model: ByteBuffer, accelerator: Accelerator = Accelerator.CPU, threads: Int = 4) : Closeable {
    val metadata: Metadata = Metadata.read(model)
    private val decoder = Decoder(metadata)
    private val delegate: Delegate? = delegate(accelerator)
    private val interpreter: Interpreter
    private val input = bytes(metadata.inputWidth * metadata.inputHeight * 3 * if (metadata.floatInput) 4 else 1)
    private val output = bytes(metadata.outputShape.fold(4) { product, side -> product * side })

    init {
        val options = Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true)
        delegate?.let { options.addDelegate(it) }
        interpreter = try {
            Interpreter(model, options)
        } catch (error: IllegalArgumentException) {
            (delegate as? Closeable)?.close()
            throw PoseException(
                "LiteRT cannot run this model on $accelerator: try another accelerator, or copy the file again. " +
                    "Received: ${error.message}"
            )
        }
    }

    /** People in a picture of [width] x [height] colors, as `Bitmap.getPixels` gives them, the best first. */
    fun people(argb: IntArray, width: Int, height: Int): List<Pose> {
        val letterbox = Letterbox.of(width, height, metadata)
        val pixels = letterbox.pixels(argb)
        input.rewind()
        if (metadata.floatInput) pixels.forEach { input.putFloat((it.toInt() and 0xff).toFloat()) } else input.put(pixels)
        input.rewind()
        output.rewind()
        interpreter.run(input, output)
        output.rewind()
        val numbers = FloatArray(output.capacity() / 4).also { output.asFloatBuffer().get(it) }
        return decoder.people(numbers, letterbox)
    }

    override fun close() {
        interpreter.close()
        (delegate as? Closeable)?.close()
    }

    private companion object {
        fun bytes(size: Int): ByteBuffer = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())

        fun delegate(accelerator: Accelerator): Delegate? = when (accelerator) {
            Accelerator.CPU -> null
            Accelerator.NNAPI -> NnApiDelegate()
            Accelerator.GPU -> CompatibilityList().use { list ->
                if (!list.isDelegateSupportedOnThisDevice) {
                    throw PoseException("LiteRT does not know this phone's GPU: take Accelerator.CPU. Received: GPU")
                }
                GpuDelegate(list.bestOptionsForThisDevice)
            }
        }
    }
}
