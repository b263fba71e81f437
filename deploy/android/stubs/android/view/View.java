package android.view;

import android.content.Context;
import android.graphics.Canvas;

public class View {
    public interface OnClickListener {
        void onClick(View view);
    }

    public View(Context context) { throw new UnsupportedOperationException(); }
    public final int getWidth() { throw new UnsupportedOperationException(); }
    public final int getHeight() { throw new UnsupportedOperationException(); }
    public void setOnClickListener(OnClickListener listener) { throw new UnsupportedOperationException(); }
    public void invalidate() { throw new UnsupportedOperationException(); }
    protected void onDraw(Canvas canvas) { throw new UnsupportedOperationException(); }
}
