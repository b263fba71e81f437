package org.tensorflow.lite.nnapi;

import java.io.Closeable;
import org.tensorflow.lite.Delegate;

public class NnApiDelegate implements Delegate, Closeable {
    @Override public long getNativeHandle() { throw new UnsupportedOperationException(); }
    @Override public void close() { throw new UnsupportedOperationException(); }
}
