"""Ways between the latents of two data: lines, great circles, and the shortest over a graph by the decoder's metric."""
