//! Memory that is used again: the system takes its time to give some and to clear it.

use bytemuck::Zeroable;

/// Makes memory so long; what it holds is any.
pub(crate) fn sized<T: Zeroable + Clone>(memory: &mut Vec<T>, len: usize) {
    if memory.capacity() < len {
        // Without a copy of what it holds.
        *memory = vec![T::zeroed(); len];
    }
    memory.resize(len, T::zeroed());
}
