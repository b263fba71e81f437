package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.View;

public class Activity extends Context {
    protected void onCreate(Bundle state) { throw new UnsupportedOperationException(); }
    protected void onDestroy() { throw new UnsupportedOperationException(); }
    public void setContentView(View view) { throw new UnsupportedOperationException(); }
    public final void runOnUiThread(Runnable action) { throw new UnsupportedOperationException(); }
}
