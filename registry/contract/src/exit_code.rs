//! How a registry pod ends when it cannot serve, beside the sentence that it logs last: by the code the operator knows what the
//! sentence is about.

/// Storage cannot be used: it is not there, may not be used, or does not keep what a registry needs. As `EX_IOERR` of
/// `sysexits.h`.
pub const UNFIT_STORAGE: u8 = 74;
