"""Images: dataset readers, decoding, transforms, loaders, synthetic pedestrians."""
