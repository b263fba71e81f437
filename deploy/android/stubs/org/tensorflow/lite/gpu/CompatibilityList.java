package org.tensorflow.lite.gpu;

import java.io.Closeable;

public class CompatibilityList implements Closeable {
    public boolean isDelegateSupportedOnThisDevice() { throw new UnsupportedOperationException(); }
    public GpuDelegateFactory.Options getBestOptionsForThisDevice() { throw new UnsupportedOperationException(); }
    @Override public void close() { throw new UnsupportedOperationException(); }
}
