//! The expansion of `#[muscle::main]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, Result};

pub(crate) fn expand(function: ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    if let Some(argument) = signature.inputs.first() {
        return Err(Error::new_spanned(
            argument,
            "the main function takes no arguments; `muscle::args()` has them",
        ));
    }
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new_spanned(keyword, "the main function cannot be async"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "the main function cannot be generic",
        ));
    }
    let name = &signature.ident;
    Ok(quote! {
        #function

        const _: () = {
            #[allow(clippy::needless_borrow)]
            fn muscle_run() -> u8 {
                use ::muscle::__private::{ReportDebug as _, ReportDisplay as _, ReportPlain as _};
                let outcome = ::muscle::__private::Outcome::new(#name());
                (&&&outcome).report()
            }

            #[used]
            #[unsafe(link_section = "muscle_entries")]
            static MUSCLE_ENTRY: ::muscle::__private::Entry = ::muscle::__private::Entry::Main(muscle_run);

            #[cfg(not(test))]
            ::muscle::__private::outside_a_cell!();
        };
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn error(function: TokenStream) -> String {
        let function = syn::parse2(function).expect("is a function");
        expand(function).expect_err("is refused").to_string()
    }

    #[test]
    fn main_functions_of_another_shape_are_refused() {
        assert!(error(quote! { fn main(x: u8) {} }).contains("takes no arguments"));
        assert!(error(quote! { async fn main() {} }).contains("async"));
        assert!(error(quote! { fn main<T>() {} }).contains("generic"));
    }
}
