package org.tensorflow.lite.gpu;

import java.io.Closeable;
import org.tensorflow.lite.Delegate;

public class GpuDelegate implements Delegate, Closeable {
    public GpuDelegate(GpuDelegateFactory.Options options) { throw new UnsupportedOperationException(); }
    @Override public long getNativeHandle() { throw new UnsupportedOperationException(); }
    @Override public void close() { throw new UnsupportedOperationException(); }
}
