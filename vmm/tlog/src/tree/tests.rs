use proptest::prelude::*;

use super::*;

fn tree(size: u64) -> Leaves {
    let mut leaves = Leaves::default();
    (0..size).for_each(|record| leaves.push(record.to_string().as_bytes()));
    leaves
}

/// The definition (RFC 6962, 2.1), word for word.
fn by_definition(records: &[String]) -> TreeHash {
    match records {
        [] => TreeHash::empty(),
        [one] => TreeHash::of_leaf(one.as_bytes()),
        many => {
            let mut k = 1;
            while k * 2 < many.len() {
                k *= 2;
            }
            let (left, right) = many.split_at(k);
            TreeHash::of_node(&by_definition(left), &by_definition(right))
        }
    }
}

/// Leaves and roots that the reference implementation of Certificate Transparency is tested with (`merkletree/merkle_tree_test.cc`).
#[test]
fn roots_are_those_of_certificate_transparency() {
    let inputs: [&[u8]; 8] = [
        &[],
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[
            0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
        ],
    ];
    let mut leaves = Leaves::default();
    let roots: Vec<String> = inputs
        .iter()
        .map(|input| {
            leaves.push(input);
            let root = leaves.head().expect("is whole").root;
            root.0.iter().map(|byte| format!("{byte:02x}")).collect()
        })
        .collect();
    assert_eq!(
        roots[0],
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
    assert_eq!(
        roots[1],
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    );
    assert_eq!(
        roots[2],
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    );
    assert_eq!(
        roots[7],
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    );
}

#[test]
fn every_small_tree_has_its_root_and_all_its_proofs() {
    let whole = tree(70);
    let records: Vec<String> = (0..70).map(|record: u64| record.to_string()).collect();
    let heads: Vec<TreeHead> = (0..=70u64)
        .map(|size| TreeHead {
            size,
            root: root(&whole, size).expect("is there"),
        })
        .collect();
    for (size, head) in heads.iter().enumerate() {
        assert_eq!(head.root, by_definition(&records[..size]), "{size}");
        for (index, record) in records.iter().take(size).enumerate() {
            let proof = inclusion(&whole, index as u64, head.size).expect("is there");
            verify_inclusion(head, index as u64, record.as_bytes(), &proof).expect("holds");
        }
        for old in &heads[..=size] {
            let proof = consistency(&whole, old.size, head.size).expect("is there");
            verify_consistency(old, head, &proof).unwrap_or_else(|error| panic!("{old:?} {head:?}: {error}"));
        }
    }
}

#[test]
fn what_is_not_in_the_tree_is_refused() {
    let whole = tree(5);
    assert!(matches!(
        inclusion(&whole, 5, 5),
        Err(TlogError::OutOfRange { .. })
    ));
    assert!(matches!(
        inclusion(&whole, 0, 0),
        Err(TlogError::OutOfRange { .. })
    ));
    assert!(matches!(
        inclusion(&whole, 4, 9),
        Err(TlogError::OutOfRange { .. })
    ));
    assert!(matches!(
        consistency(&whole, 6, 5),
        Err(TlogError::OutOfRange { .. })
    ));
    let five = whole.head().expect("is whole");
    let forged = TreeHead {
        root: TreeHash::of_leaf(b"x"),
        ..five
    };
    assert!(verify_consistency(&forged, &five, &[]).is_err());
    assert!(verify_consistency(&TreeHead::empty(), &five, &[five.root]).is_err());
    verify_consistency(&TreeHead::empty(), &five, &[]).expect("everything begins with nothing");
}

proptest! {
    /// A proof for another record, another place or another tree never holds, nor one with a bit turned, a hash too many or one too few.
    #[test]
    fn a_proof_shows_one_thing(size in 2u64..300, index in 0u64..300, other in 0u64..300, bit in 0usize..256, at in any::<prop::sample::Index>()) {
        let (index, other) = (index % size, other % size);
        let whole = tree(size);
        let head = whole.head().expect("is whole");
        let proof = inclusion(&whole, index, size).expect("is there");
        let record = index.to_string();
        verify_inclusion(&head, index, record.as_bytes(), &proof).expect("holds");
        if other != index {
            prop_assert!(verify_inclusion(&head, index, other.to_string().as_bytes(), &proof).is_err());
            prop_assert!(verify_inclusion(&head, other, record.as_bytes(), &proof).is_err());
        }
        let mut turned = proof.clone();
        let place = at.index(turned.len());
        turned[place].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(&head, index, record.as_bytes(), &turned).is_err());
        let mut longer = proof.clone();
        longer.push(head.root);
        prop_assert!(verify_inclusion(&head, index, record.as_bytes(), &longer).is_err());
        prop_assert!(verify_inclusion(&head, index, record.as_bytes(), &proof[1..]).is_err());

        let old = other + 1;
        let old = TreeHead { size: old, root: root(&whole, old).expect("is there") };
        let grown = consistency(&whole, old.size, size).expect("is there");
        verify_consistency(&old, &head, &grown).expect("holds");
        if !grown.is_empty() {
            let mut turned = grown.clone();
            let place = at.index(turned.len());
            turned[place].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_consistency(&old, &head, &turned).is_err());
        }
        let forged = TreeHead { root: TreeHash::of_leaf(&old.root.0), ..old };
        prop_assert!(verify_consistency(&forged, &head, &grown).is_err());
    }
}
