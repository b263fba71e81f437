package android.content;

import android.content.res.AssetManager;

public abstract class Context {
    public static final int MODE_PRIVATE = 0;
    public AssetManager getAssets() { throw new UnsupportedOperationException(); }
}
