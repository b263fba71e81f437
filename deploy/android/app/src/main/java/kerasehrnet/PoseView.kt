package kerasehrnet

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import android.graphics.Paint
import android.view.View

/** A picture and the people in it. */
class PoseView(context: Context) : View(context) {
    private var picture: Bitmap? = null
    private var people = listOf<Pose>()
    private var skeleton: Skeleton? = null
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG).apply { strokeCap = Paint.Cap.ROUND }

    /** Whatever is shown from now on. */
    fun show(picture: Bitmap, people: List<Pose>, skeleton: Skeleton) {
        this.picture = picture
        this.people = people
        this.skeleton = skeleton
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val picture = picture ?: return
        val factor = minOf(width.toFloat() / picture.width, height.toFloat() / picture.height)
        val place = Matrix().apply {
            setScale(factor, factor)
            postTranslate((width - factor * picture.width) / 2, (height - factor * picture.height) / 2)
        }
        canvas.concat(place)
        canvas.drawBitmap(picture, 0f, 0f, null)
        paint.strokeWidth = LINE / factor
        people.forEach { draw(canvas, it) }
    }

    private fun draw(canvas: Canvas, pose: Pose) {
        paint.color = Color.HSVToColor(floatArrayOf(pose.id * HUE_STEP % 360, 0.8f, 1f))
        for ((from, to) in skeleton!!.limbs) {
            if (pose.score(from) > LEAST && pose.score(to) > LEAST) {
                canvas.drawLine(pose.x(from), pose.y(from), pose.x(to), pose.y(to), paint)
            }
        }
    }

    private companion object {
        const val LINE = 8f
        const val LEAST = 0.2f
        const val HUE_STEP = 137f // far from the hues before
    }
}
