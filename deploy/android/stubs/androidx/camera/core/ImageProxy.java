package androidx.camera.core;

import android.graphics.Bitmap;

public interface ImageProxy extends AutoCloseable {
    ImageInfo getImageInfo();
    Bitmap toBitmap();
    @Override void close();
}
