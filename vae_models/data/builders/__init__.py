"""Builds each data set from its files or its rule. Splits are fixed: no seed changes them.

digits            1,297 / 250 / 250: scikit-learn's 1,797 in the order of RandomState(0).permutation
mnist, fashion    50,000 / 10,000 / 10,000: validation is the last 10,000 of the training file
binarized-mnist   50,000 / 10,000 / 10,000: three published files; bytes 0 and 255, so that x = k/255 is 0 or 1
omniglot          23,000 / 1,345 / 8,070: the IWAE authors' own split: RandomState(123).permutation of the training
                  columns, the last 1,345 for validation (8,115 test images from the originals or their conversion)
cifar10           40,000 / 10,000 / 10,000: validation is training batch 5
cifar10-subset    9,000 / 1,000 / 1,000: training batch 1, its last 1,000 for validation; the first 1,000 of the test
                  batch. Its numbers are not CIFAR-10's, so it has a name of its own
svhn, svhn-28     63,257 / 10,000 / 26,032: validation is the last 10,000 of the training file; 28: resized to 28x28 by
                  bilinear interpolation with antialiasing, as the sigma-VAE authors do
celeba            162,770 / 19,867 / 19,962 by the published list; centre crop 140, bilinear to 64x64
celeba-hq         24,183 / 2,993 / 2,824: the split of the CelebA image that each was made from; bilinear to 128x128
chairs            69,092 / 8,637 / 8,637 in the order of RandomState(0).permutation (no split is published); the whole
                  renders in grey, bilinear to 64x64
faces             101,640 / 12,705 / 12,705 in the order of RandomState(0).permutation (no split is published)
dsprites          717,280 / 10,000 / 10,000 in the order of RandomState(0).permutation (no split is published);
                  bytes 0 and 255
frey-faces        1,565 / 200 / 200 in the order of RandomState(0).permutation (no split is published)
caltech-silhouettes  4,100 / 2,264 / 2,307: split 1 as published; 255 for the object, 0 for the background
cmu-motion        4,783 / 598 / 602: of every trial the first 80 %, the next 10 % and the last 10 % of the frames.
                  float32, **radians**, 50 joint angles: the skeleton's channels in its order without the root and
                  the fingers and thumbs; neither centred nor scaled otherwise. Four of the five movements of
                  Klushyn et al. 2019: walk, jog, balance, punch (which trials they took is not published). The fifth is
                  kicking, of which no trial has been at hand: a set's sizes are its trials' frames, which have to be
                  counted first
pendulum          5,000 / 1,000 / 1,000: consecutive stretches of the angle sequence, each covering the circle evenly
tinyshakespeare   22,969 / 1,278 / 1,308: lines of speeches, in small letters, marks apart from words; of the speeches
                  in the order of RandomState(0).permutation the first 90 %, the next 5 % and the rest (no split is
                  published). The 5,996 most frequent tokens of the training lines, and four special ones
yahoo             100,000 / 10,000 / 10,000 by the published files, a document a line; the 9,996 most frequent tokens of
                  training and four special ones (MR-VAE's count is of 10,000; the files have about 20,000); of a
                  document of more than 200 tokens the first 200
moving-mnist      60,000 / 1,000 / 1,000 videos of 15 frames: 5 that are seen and 10 that are predicted; made by their
                  numbers whenever they are read (`vae_models.data.moving`), of the digits of MNIST's split of that name
moving-mnist-deterministic  the same, reflected at the walls
bair, bair-12     42,240 / 1,024 / 256 videos of 30 frames, or of the first 12 of them: the published training and test
                  files, by their numbers; the last 1,024 of training for validation (none is published). The camera
                  image_aux1, as all published results
moving-digits     4,000 / 500 / 500 videos of 10 frames of 16x16, of scikit-learn's digits, at most 2 pixels a frame
"""
