"""Pure torch: tensors in, tensors out; knows no file, no name and no network."""
