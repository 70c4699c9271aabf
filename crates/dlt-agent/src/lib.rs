//! The Q-learning agent that decides which layers are tied, and the policies it is compared with.
