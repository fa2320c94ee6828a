# SPDX-License-Identifier: Apache-2.0
"""Networks of Caffe as they are described in `.prototxt` files.

`layer_types` knows what each type of layer takes and gives, `prototxt` reads a file
into plain values, and `network` makes the Keras network of these.
"""
