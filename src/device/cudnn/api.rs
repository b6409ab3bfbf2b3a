//! The functions of libcudnn that are called, with statuses as plain integers: a library newer than the binding may return one
//! that the binding's enum has no value for. A missing library or function is an error here, not a panic.

use crate::error::{Error, Result};
use cudarc::cudnn::sys;
use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

/// Room for what the library says about its last error.
const WORDS: usize = 4096;
/// The statuses from here to 3999 mean that an engine cannot do what is asked; another one may.
const NOT_SUPPORTED: i32 = 3000;

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Functions of the loaded library.
        #[derive(Debug)]
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Api {
            fn load() -> std::result::Result<Self, String> {
                // SAFETY: only tries to open the library.
                if !unsafe { sys::is_culib_present() } {
                    return Err("libcudnn.so.9 was not found; install cuDNN 9, for example the wheel nvidia-cudnn-cu13".into());
                }
                // SAFETY: the library is there.
                let library = unsafe { sys::culib() };
                $(
                    // SAFETY: the function has this signature in cuDNN 9's headers; a status is an enum of C's `int` size.
                    let $field = unsafe { library.get::<unsafe extern "C" fn($($argument),*) $(-> $result)?>($name.to_bytes()) };
                    let $field = *$field.map_err(|_| format!("the library has no {}; cuDNN 9 is needed", $name.to_string_lossy()))?;
                )*
                Ok(Self { $($field),* })
            }
        }
    };
}

functions! {
    version = c"cudnnGetVersion": fn() -> usize;
    create = c"cudnnCreate": fn(*mut *mut c_void) -> i32;
    destroy = c"cudnnDestroy": fn(*mut c_void) -> i32;
    set_stream = c"cudnnSetStream": fn(*mut c_void, *mut c_void) -> i32;
    error_name = c"cudnnGetErrorString": fn(i32) -> *const c_char;
    last_error = c"cudnnGetLastErrorString": fn(*mut c_char, usize);
    create_descriptor = c"cudnnBackendCreateDescriptor": fn(i32, *mut *mut c_void) -> i32;
    destroy_descriptor = c"cudnnBackendDestroyDescriptor": fn(*mut c_void) -> i32;
    set_attribute = c"cudnnBackendSetAttribute": fn(*mut c_void, i32, i32, i64, *const c_void) -> i32;
    get_attribute = c"cudnnBackendGetAttribute": fn(*mut c_void, i32, i32, i64, *mut i64, *mut c_void) -> i32;
    finalize = c"cudnnBackendFinalize": fn(*mut c_void) -> i32;
    graph_version_check = c"cudnnGraphVersionCheck": fn() -> i32;
    ops_version_check = c"cudnnOpsVersionCheck": fn() -> i32;
    cnn_version_check = c"cudnnCnnVersionCheck": fn() -> i32;
    execute = c"cudnnBackendExecute": fn(*mut c_void, *mut c_void, *mut c_void) -> i32;
}

/// The loaded library.
///
/// # Errors
/// [`Error::Device`] if it is not there or not whole, with what to install.
pub(super) fn api() -> Result<&'static Api> {
    static API: OnceLock<std::result::Result<Api, String>> = OnceLock::new();
    API.get_or_init(Api::load).as_ref().map_err(|reason| Error::Device { what: "loading cuDNN".into(), reason: reason.clone() })
}

/// What a call was refused with.
#[derive(Debug)]
pub(super) struct Refusal {
    status: i32,
    words: String,
}

impl Refusal {
    /// Whether another engine may accept what this one refuses.
    pub(super) fn is_not_supported(&self) -> bool {
        (NOT_SUPPORTED..NOT_SUPPORTED + 1000).contains(&self.status)
    }

    /// The status by name and number, and the library's reason.
    pub(super) fn words(&self) -> &str {
        &self.words
    }

    /// As the error of doing `what`.
    pub(super) fn during(self, what: impl Into<String>) -> Error {
        Error::Device { what: format!("cuDNN, {}", what.into()), reason: self.words }
    }
}

impl Api {
    /// A status as a result, with the library's own account of the reason.
    pub(super) fn check(&self, status: i32) -> std::result::Result<(), Refusal> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the library returns a constant string for any number.
        let name = unsafe { CStr::from_ptr((self.error_name)(status)) }.to_string_lossy();
        let mut text = [0u8; WORDS];
        // SAFETY: the buffer has the size that is passed; the library ends the text with a zero.
        unsafe { (self.last_error)(text.as_mut_ptr().cast(), WORDS) };
        let said = CStr::from_bytes_until_nul(&text).map(|words| words.to_string_lossy().trim().to_owned()).unwrap_or_default();
        Err(Refusal { status, words: format!("{name} ({status}) {said}").trim_end().to_owned() })
    }
}
