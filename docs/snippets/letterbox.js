// pixels: RGBA, as of getImageData. Returns RGB for the network, and the way back from its pixels to those of the image.
function letterbox(pixels, width, height, inputWidth, inputHeight) {
  const factor = Math.min(inputWidth / width, inputHeight / height);
  const left = (inputWidth - factor * width) / 2;
  const top = (inputHeight - factor * height) / 2;
  const at = (x, y, channel) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : pixels[4 * (y * width + x) + channel];
  const input = new Uint8Array(inputWidth * inputHeight * 3);
  for (let row = 0; row < inputHeight; row++) {
    const y = (row + 0.5 - top) / factor - 0.5;
    const y0 = Math.floor(y);
    for (let column = 0; column < inputWidth; column++) {
      const x = (column + 0.5 - left) / factor - 0.5;
      const x0 = Math.floor(x);
      for (let channel = 0; channel < 3; channel++) {
        const above = at(x0, y0, channel) * (1 - x + x0) + at(x0 + 1, y0, channel) * (x - x0);
        const below = at(x0, y0 + 1, channel) * (1 - x + x0) + at(x0 + 1, y0 + 1, channel) * (x - x0);
        input[3 * (row * inputWidth + column) + channel] = Math.round(above * (1 - y + y0) + below * (y - y0));
      }
    }
  }
  return { input, toImage: (x, y) => [(x - left) / factor, (y - top) / factor] };
}
