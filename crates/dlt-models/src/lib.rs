//! Transformers as an assembly over one bank of blocks, in which a tie is an index and never a copy.
