//! The codec's tests: octets of the specification, an independent codec, hostile input.
