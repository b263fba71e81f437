package android.graphics;

public class Paint {
    public static final int ANTI_ALIAS_FLAG = 1;

    public enum Cap { BUTT, ROUND, SQUARE }

    public Paint(int flags) { throw new UnsupportedOperationException(); }
    public Cap getStrokeCap() { throw new UnsupportedOperationException(); }
    public void setStrokeCap(Cap cap) { throw new UnsupportedOperationException(); }
    public float getStrokeWidth() { throw new UnsupportedOperationException(); }
    public void setStrokeWidth(float width) { throw new UnsupportedOperationException(); }
    public int getColor() { throw new UnsupportedOperationException(); }
    public void setColor(int color) { throw new UnsupportedOperationException(); }
}
