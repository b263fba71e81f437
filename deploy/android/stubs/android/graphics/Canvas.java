package android.graphics;

public class Canvas {
    public void concat(Matrix matrix) { throw new UnsupportedOperationException(); }
    public void drawBitmap(Bitmap bitmap, float left, float top, Paint paint) { throw new UnsupportedOperationException(); }
    public void drawLine(float startX, float startY, float stopX, float stopY, Paint paint) { throw new UnsupportedOperationException(); }
}
