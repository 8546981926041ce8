//! The expansion of `#[muscle::export]`.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Error, FnArg, Ident, ItemFn, Pat, Result, Safety};

/// The expansion of `#[muscle::receive]`.
pub(crate) fn expand_receiver(function: ItemFn) -> Result<TokenStream> {
    match function.sig.inputs.len() {
        1 => expand(function),
        _ => Err(Error::new_spanned(
            &function.sig,
            "a function that receives takes one argument, the message",
        )),
    }
}

pub(crate) fn expand(function: ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new_spanned(
            keyword,
            "an exported function cannot be async",
        ));
    }
    if let Safety::Unsafe(keyword) = &signature.safety {
        return Err(Error::new_spanned(
            keyword,
            "an exported function cannot be unsafe",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "an exported function cannot be generic",
        ));
    }
    let names = signature
        .inputs
        .iter()
        .map(parameter)
        .collect::<Result<Vec<Ident>>>()?;
    let texts: Vec<String> = names.iter().map(|name| name.unraw().to_string()).collect();
    let locals: Vec<Ident> = (0..names.len())
        .map(|index| format_ident!("argument_{index}"))
        .collect();
    let indexes = 0..names.len();

    let name = &signature.ident;
    let text = name.unraw().to_string();
    if text.len() > NAME_MAX {
        return Err(Error::new_spanned(
            name,
            "the name of an exported function has at most 255 bytes",
        ));
    }
    let terminated = Literal::byte_string(&[text.as_bytes(), b"\0"].concat());
    let length = text.len() + 1;
    Ok(quote! {
        #function

        const _: () = {
            #[allow(clippy::needless_borrow)]
            fn muscle_answer(
                payload: &[u8],
            ) -> ::core::result::Result<::muscle::__private::Vec<u8>, ::muscle::__private::CallError> {
                use ::muscle::__private::{AnswerPlain as _, AnswerResult as _};
                let arguments = ::muscle::__private::Arguments::read(payload, &[#(#texts),*])?;
                #(let #locals = arguments.take(#indexes)?;)*
                let outcome = ::muscle::__private::Outcome::new(#name(#(#locals),*));
                (&&outcome).answer()
            }

            #[used]
            #[unsafe(link_section = "muscle_exports")]
            static MUSCLE_NAME: [u8; #length] = *#terminated;

            #[used]
            #[unsafe(link_section = "muscle_entries")]
            static MUSCLE_ENTRY: ::muscle::__private::Entry = ::muscle::__private::Entry::Export {
                name: &MUSCLE_NAME,
                handler: muscle_answer,
            };
        };
    })
}

/// The name of a parameter, by which a caller may pass it.
fn parameter(argument: &FnArg) -> Result<Ident> {
    match argument {
        FnArg::Typed(typed) => match &*typed.pat {
            Pat::Ident(pattern) => Ok(pattern.ident.clone()),
            other => Err(Error::new_spanned(
                other,
                "a parameter of an exported function is a plain name",
            )),
        },
        FnArg::Receiver(receiver) => Err(Error::new_spanned(
            receiver,
            "a method cannot be exported, only a free function",
        )),
    }
}

/// A frame has one byte for the length of a name.
const NAME_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(function: TokenStream) -> Result<String> {
        let function = syn::parse2(function).expect("is a function");
        expand(function).map(|tokens| tokens.to_string())
    }

    #[test]
    fn export_registers_name_and_parameters() {
        let text = expanded(quote! { fn check(order: Order, r#type: u8) -> bool { true } }).expect("expands");
        assert!(text.contains("b\"check\\0\""), "{text}");
        assert!(text.contains("& [\"order\" , \"type\"]"), "{text}");
    }

    #[test]
    fn a_function_that_receives_takes_the_message_alone() {
        let expanded = |function| expand_receiver(syn::parse2(function).expect("is a function"));
        assert!(expanded(quote! { fn take(message: u8) {} }).is_ok());
        for function in [quote! { fn take() {} }, quote! { fn take(one: u8, two: u8) {} }] {
            let error = expanded(function).expect_err("is refused").to_string();
            assert!(error.contains("one argument"), "{error}");
        }
    }

    #[test]
    fn functions_that_cannot_be_called_from_outside_are_refused() {
        let error = |function| expanded(function).expect_err("is refused").to_string();
        assert!(error(quote! { async fn f() {} }).contains("async"));
        assert!(error(quote! { unsafe fn f() {} }).contains("unsafe"));
        assert!(error(quote! { fn f<T>(x: T) {} }).contains("generic"));
        assert!(error(quote! { fn f(self) {} }).contains("method"));
        assert!(error(quote! { fn f((a, b): (u8, u8)) {} }).contains("plain name"));
    }
}
