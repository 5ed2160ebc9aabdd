//! Worker threads that a forked process has as well.

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::mem::ManuallyDrop;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

/// The threads, and the process that they are of. Those of a parent are not there after a fork, and waiting
/// for them to end would take forever.
static POOL: Mutex<Option<(u32, ManuallyDrop<Arc<ThreadPool>>)>> = Mutex::new(None);

/// Runs `work` on as many threads as there are processors, or as `RAYON_NUM_THREADS` says.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> PyResult<T> {
    let pool = pool().map_err(|e| {
        PyRuntimeError::new_err(format!(
            "cannot start threads: {e}; set RAYON_NUM_THREADS to a smaller number"
        ))
    })?;
    Ok(pool.install(work))
}

fn pool() -> Result<Arc<ThreadPool>, rayon::ThreadPoolBuildError> {
    let mut known = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, pool)) = &*known
        && *owner == process::id()
    {
        return Ok(Arc::clone(pool));
    }
    let pool = Arc::new(ThreadPoolBuilder::new().build()?);
    *known = Some((process::id(), ManuallyDrop::new(Arc::clone(&pool))));
    Ok(pool)
}
