//! `#[muscle::main]`, `#[muscle::export]` and `#[muscle::receive]`.
//!
//! Each leaves the function as it is and registers it: it puts one `Entry` into the link section `muscle_entries`, from
//! which the runtime starts a command or answers a call. The `#[unsafe(link_section)]` that this takes is the
//! macro's, not the author's, so that a crate with `#![forbid(unsafe_code)]` may use them.
#![forbid(unsafe_code)]

mod export;
mod main_function;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

/// Makes a function the one that a command runs.
///
/// It takes no arguments and returns nothing, a `muscle::ExitCode`, or a `Result` of one of these whose error is
/// `Display` or `Debug`. An error is printed to standard error and the exit code is 1.
///
/// ```ignore
/// #[muscle::main]
/// fn main() -> muscle::Result<()> {
///     println!("hello, {}", muscle::args().join(" "));
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    expand(options, main_function::expand(function))
}

/// Lets the host call a free function by its name.
///
/// Each argument is any `serde::de::DeserializeOwned` type, the result any `serde::Serialize` type or a `Result`
/// of one whose error is `Display`. Arguments come by position or by name; one that is left out is `null`, which an
/// `Option` takes.
///
/// ```ignore
/// #[muscle::export]
/// fn add(left: u64, right: u64) -> u64 {
///     left + right
/// }
/// ```
#[proc_macro_attribute]
pub fn export(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    expand(options, export::expand(function))
}

/// Lets messages of a channel be taken by a free function, which a slot with `role = "receive"` names.
///
/// It is exported as by [`macro@export`], and takes one argument: the message. What it returns is the answer to a request; the answer to
/// a message that was only sent goes nowhere.
///
/// ```ignore
/// #[muscle::receive]
/// fn on_tick(tick: Tick) -> Result<(), String> {
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn receive(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    expand(options, export::expand_receiver(function))
}

fn expand(options: TokenStream, expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    let options = proc_macro2::TokenStream::from(options);
    let result = if options.is_empty() {
        expanded
    } else {
        Err(syn::Error::new_spanned(
            options,
            "this attribute takes no options",
        ))
    };
    result.unwrap_or_else(|error| error.to_compile_error()).into()
}
