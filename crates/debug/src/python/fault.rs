//! Points at which tests let the injector die, to prove that the target lives on.

/// A place between two steps of the injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Point {
    /// A held program has come to its next system call.
    Followed,
    /// A thread stands still, nothing was changed.
    Stopped,
    /// Frames lie below its stack.
    Written,
    /// Its registers make it begin a call.
    CallBegun,
    /// The call has returned, the next has not begun.
    CallReturned,
    /// Its registers are as they were.
    Restored,
    /// The interpreter was asked to run the code later.
    Armed,
    /// The code runs inside the process and waits for its files.
    Answered,
    /// The files are in place, the debugger is being loaded.
    Filled,
}

/// What is done when a point is reached: nothing, outside tests.
#[derive(Default)]
#[doc(hidden)]
pub struct Fault(Option<Box<dyn Fn(Point) + Send + Sync>>);

impl Fault {
    /// Calls `hook` at every point.
    #[must_use]
    pub fn new(hook: impl Fn(Point) + Send + Sync + 'static) -> Fault {
        Fault(Some(Box::new(hook)))
    }

    pub(super) fn reach(&self, point: Point) {
        if let Some(hook) = &self.0 {
            hook(point);
        }
    }
}
