//! Public areas of the keys that are made (Part 2, 12.2.4). All have noDA: a host that loses power often must not lock itself out.

use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{
    Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyedHashParameters, SymmetricDefinitionObject,
};

use crate::commands::malformed;
use crate::error::TpmError;

/// The storage root key: a parent for sealed objects.
pub fn storage_root() -> Result<Public, TpmError> {
    primary(true)
}

/// The endorsement key by the default template for RSA 2048 (TCG EK Credential Profile 2.5, B.3.3).
pub fn endorsement_key() -> Result<Public, TpmError> {
    let algorithm = AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048);
    ek::create_ek_public_from_default_template_2(algorithm, None).map_err(malformed)
}

/// The attestation key: restricted, so that it signs nothing but what the TPM says.
pub fn attestation_key() -> Result<Public, TpmError> {
    primary(false)
}

fn primary(storage: bool) -> Result<Public, TpmError> {
    let build = || {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .with_restricted(true)
            .with_decrypt(storage)
            .with_sign_encrypt(!storage)
            .build()?;
        let (symmetric, scheme) = if storage {
            (SymmetricDefinitionObject::AES_128_CFB, EccScheme::Null)
        } else {
            let hash = HashScheme::new(HashingAlgorithm::Sha256);
            (SymmetricDefinitionObject::Null, EccScheme::EcDsa(hash))
        };
        let parameters = PublicEccParametersBuilder::new()
            .with_symmetric(symmetric)
            .with_ecc_scheme(scheme)
            .with_curve(EccCurve::NistP256)
            .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
            .with_is_signing_key(!storage)
            .with_is_decryption_key(storage)
            .with_restricted(true)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(parameters)
            .with_ecc_unique_identifier(EccPoint::default())
            .build()
    };
    build().map_err(malformed)
}

/// A sealed secret that opens under this policy alone.
pub fn sealed(policy: &[u8; 32]) -> Result<Public, TpmError> {
    let build = || {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_no_da(true)
            .with_admin_with_policy(true)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::KeyedHash)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_auth_policy(Digest::try_from(policy.to_vec())?)
            .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
            .with_keyed_hash_unique_identifier(Digest::default())
            .build()
    };
    build().map_err(malformed)
}
