//! Memory that is given back is wiped first, whoever held it: a library's read buffer too.
//!
//! A token passes through an HTTP library's buffers on its way to a digest. They are given back when
//! the connection closes, and what stood in them would stay in the process, for a core or a swap
//! file to keep. A daemon allocates little, so wiping costs it nothing that can be measured.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

/// The system's allocator, with a wipe before each release.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiping;

// SAFETY: each call is passed on to the system's allocator with the layout that it came with; what
// is written to before a release is the block of layout.size() bytes that is being released.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, 0 < layout.size(), is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's, for layout.size() bytes, until it is released below.
        unsafe { block.write_bytes(0, layout.size()) };
        // Looked at, so that the compiler does not leave out what nobody reads.
        black_box(block);
        // SAFETY: the caller's promise, a block of this allocator and layout, is passed on.
        unsafe { System.dealloc(block, layout) };
    }

    // Not the system's `realloc`, which may move a block and leave the old bytes: the trait's own
    // takes a new block, copies, and releases the old one by the way above.
}
