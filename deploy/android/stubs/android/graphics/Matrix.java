package android.graphics;

public class Matrix {
    public void setScale(float x, float y) { throw new UnsupportedOperationException(); }
    public boolean postTranslate(float x, float y) { throw new UnsupportedOperationException(); }
    public boolean postRotate(float degrees) { throw new UnsupportedOperationException(); }
}
