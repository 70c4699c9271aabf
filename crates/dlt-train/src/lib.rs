//! Algorithm 1 as a loop: train, decide, tie, reward, learn, evaluate, record.
