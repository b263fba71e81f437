package org.tensorflow.lite;

import java.nio.ByteBuffer;

public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setNumThreads(int threads) { throw new UnsupportedOperationException(); }
        public Options setUseXNNPACK(boolean use) { throw new UnsupportedOperationException(); }
        public Options addDelegate(Delegate delegate) { throw new UnsupportedOperationException(); }
    }

    public Interpreter(ByteBuffer model, Options options) { throw new UnsupportedOperationException(); }
    public void run(Object input, Object output) { throw new UnsupportedOperationException(); }
    @Override public void close() { throw new UnsupportedOperationException(); }
}
