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
 *     PoseNetwork(several, refine = PoseNetwork(single)).use { it.people(argb, width, height) }
 *
 * One thread at a time may call it, the same for all calls where it is on the GPU.
 *
 * @param model a direct buffer with all of the `.tflite` file, such as a mapped asset.
 * @param accelerator what computes.
 * @param threads how many the CPU takes.
 * @param refine a model for one person at a time, which looks at everyone again, see [Finder]; closed with this one. Takes
 *   as long again for every person, and more where the crop moves.
 * @throws PoseException if the file is none of keras-ehrnet, the accelerator is not there, or the models do not go together.
 */
class PoseNetwork(
    model: ByteBuffer,
    accelerator: Accelerator = Accelerator.CPU,
    threads: Int = 4,
    private val refine: PoseNetwork? = null
) : Closeable {
    val metadata: Metadata = Metadata.read(model)
    private val finder: Finder = Finder(metadata, refine?.finder) { run(it) }
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
    fun people(argb: IntArray, width: Int, height: Int): List<Pose> = finder.people(argb, width, height)

    private fun run(pixels: ByteArray): FloatArray {
        input.rewind()
        if (metadata.floatInput) pixels.forEach { input.putFloat((it.toInt() and 0xff).toFloat()) } else input.put(pixels)
        input.rewind()
        output.rewind()
        interpreter.run(input, output)
        output.rewind()
        return FloatArray(output.capacity() / 4).also { output.asFloatBuffer().get(it) }
    }

    override fun close() {
        interpreter.close()
        (delegate as? Closeable)?.close()
        refine?.close()
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
