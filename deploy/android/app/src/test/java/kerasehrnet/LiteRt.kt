package kerasehrnet

import com.sun.jna.Memory
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import java.io.File

/** A model run by LiteRT's C library on any JVM: for tests on a computer. On Android see `PoseNetwork`. */
internal class LiteRt(library: File, model: File) {
    private val functions = NativeLibrary.getInstance(library.path)
    private val environment = made("LiteRtCreateEnvironment", 0, null)
    private val loaded = made("LiteRtCreateModelFromFile", environment, model.path)
    private val options = made("LiteRtCreateOptions")
    private val compiled: Pointer

    init {
        call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        compiled = made("LiteRtCreateCompiledModel", environment, loaded, options)
    }

    fun run(pixels: ByteArray): FloatArray {
        val input = buffer("Input")
        val output = buffer("Output")
        locked(input, WRITE) { it.write(0, pixels, 0, pixels.size) }
        call("LiteRtRunCompiledModel", compiled, 0L, 1L, pointers(input), 1L, pointers(output))
        val size = Memory(8)
        call("LiteRtGetTensorBufferPackedSize", output, size)
        return locked(output, READ) { it.getFloatArray(0, size.getLong(0).toInt() / 4) }
    }

    private fun buffer(side: String): Pointer {
        val signature = made("LiteRtGetModelSignature", loaded, 0L)
        val tensor = made("LiteRtGetSignature${side}TensorByIndex", signature, 0L)
        val type = Memory(256)
        call("LiteRtGetRankedTensorType", tensor, type)
        val needs = made("LiteRtGetCompiledModel${side}BufferRequirements", compiled, 0L, 0L)
        return made("LiteRtCreateManagedTensorBufferFromRequirements", environment, type, needs)
    }

    private fun <T> locked(buffer: Pointer, mode: Int, use: (Pointer) -> T): T {
        val place = PointerByReference()
        call("LiteRtLockTensorBuffer", buffer, place, mode)
        try {
            return use(place.value)
        } finally {
            call("LiteRtUnlockTensorBuffer", buffer)
        }
    }

    private fun pointers(one: Pointer): Memory = Memory(8).also { it.setPointer(0, one) }

    private fun made(function: String, vararg arguments: Any?): Pointer {
        val result = PointerByReference()
        call(function, *arguments, result)
        return result.value
    }

    private fun call(function: String, vararg arguments: Any?) {
        val status = functions.getFunction(function).invokeInt(arguments)
        check(status == 0) { "$function gave status $status" }
    }

    private companion object {
        const val CPU = 1
        const val READ = 0
        const val WRITE = 1
    }
}
