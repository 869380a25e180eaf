//! What Echo Core measures of itself, side by side with its peers.
