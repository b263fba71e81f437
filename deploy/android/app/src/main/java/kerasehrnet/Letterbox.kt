package kerasehrnet

import kotlin.math.floor

/** A part of a picture: its middle at ([x], [y]), [width] and [height], in pixels. It may reach beyond the borders. */
class Region(val x: Double, val y: Double, val width: Double, val height: Double) {
    companion object {
        /** All of a picture. */
        fun whole(width: Int, height: Int): Region = Region(width / 2.0, height / 2.0, width.toDouble(), height.toDouble())
    }
}

/** How a [region] of a picture enters a network: as large as fits, centered, and around it what is there, or black. */
class Letterbox(
    val imageWidth: Int,
    val imageHeight: Int,
    val inputWidth: Int,
    val inputHeight: Int,
    region: Region = Region.whole(imageWidth, imageHeight)
) {
    /** Pixels of the input per pixel of the picture. */
    val factor: Double

    init {
        if (minOf(minOf(imageWidth, imageHeight), minOf(inputWidth, inputHeight)) <= 0) {
            throw PoseException(
                "Sizes must be positive. Received: ${imageWidth}x$imageHeight for ${inputWidth}x$inputHeight"
            )
        }
        factor = minOf(inputWidth / region.width, inputHeight / region.height)
    }

    private val left = inputWidth / 2.0 - factor * region.x
    private val top = inputHeight / 2.0 - factor * region.y

    /** An x of the network's input as one of the picture; outside it where the input shows what is beyond. */
    fun imageX(x: Double): Float = ((x - left) / factor).toFloat()

    /** As [imageX]. */
    fun imageY(y: Double): Float = ((y - top) / factor).toFloat()

    /** The network's input, RGB bytes row by row, from the colors that `Bitmap.getPixels` gives. */
    fun pixels(argb: IntArray): ByteArray {
        if (argb.size != imageWidth * imageHeight) {
            throw PoseException("A picture of ${imageWidth}x$imageHeight is needed. Received: ${argb.size} pixels")
        }
        val step = (1 / factor).toFloat()
        val across = Places(inputWidth, step, ((0.5 - left) / factor - 0.5).toFloat(), true)
        val down = Places(inputHeight, step, ((0.5 - top) / factor - 0.5).toFloat(), false)
        val result = ByteArray(3 * inputWidth * inputHeight)
        var at = 0
        for (row in 0 until inputHeight) {
            val y = down.first[row]
            for (column in 0 until inputWidth) {
                val x = across.first[column]
                val part = across.part[column]
                val upperLeft = color(argb, x, y)
                val upperRight = color(argb, x + 1, y)
                val lowerLeft = color(argb, x, y + 1)
                val lowerRight = color(argb, x + 1, y + 1)
                for (shift in 16 downTo 0 step 8) {
                    val above = between(upperLeft shr shift and 0xff, upperRight shr shift and 0xff, part)
                    val below = between(lowerLeft shr shift and 0xff, lowerRight shr shift and 0xff, part)
                    val value = (above + down.part[row].toDouble() * (below - above)).toFloat()
                    result[at++] = Math.rint(value.toDouble()).toInt().toByte()
                }
            }
        }
        return result
    }

    /** The mirror image of the network's input. */
    fun mirrored(pixels: ByteArray): ByteArray = ByteArray(pixels.size) {
        val pixel = it / 3
        val column = pixel % inputWidth
        pixels[3 * (pixel - column + inputWidth - 1 - column) + it % 3]
    }

    private fun color(argb: IntArray, x: Int, y: Int): Int =
        if (x < 0 || y < 0 || x >= imageWidth || y >= imageHeight) 0 else argb[y * imageWidth + x]

    private fun between(from: Int, to: Int, part: Float): Float = (from + part.toDouble() * (to - from)).toFloat()

    /** Where the pixels of one side come from, in single precision step by step as OpenCV 5 has it: the same bytes follow. */
    private class Places(count: Int, step: Float, start: Float, fused: Boolean) {
        val first = IntArray(count)
        val part = FloatArray(count)

        init {
            for (index in 0 until count) {
                val product = step.toDouble() * index
                val place = ((if (fused) product else product.toFloat().toDouble()) + start).toFloat()
                first[index] = floor(place.toDouble()).toInt()
                part[index] = place - first[index]
            }
        }
    }

    companion object {
        /** A [region] of a picture, or all of it, in the input of a model. */
        fun of(
            imageWidth: Int,
            imageHeight: Int,
            metadata: Metadata,
            region: Region = Region.whole(imageWidth, imageHeight)
        ): Letterbox = Letterbox(imageWidth, imageHeight, metadata.inputWidth, metadata.inputHeight, region)
    }
}
