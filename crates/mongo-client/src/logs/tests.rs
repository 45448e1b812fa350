//! Records as a subscriber receives them.
