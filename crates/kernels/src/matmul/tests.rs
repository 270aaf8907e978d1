//! Against double precision, in every shape, order and instruction set, and bit for bit with any number of threads.
#![allow(clippy::unwrap_used)]

use half::bf16;

use super::*;
use crate::WeightType;
use crate::dequantize;
use crate::test_data::{random_blocks, random_floats};

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// The matrix, or the same stored the other way round.
fn stored<'a>(
    data: &'a [f32],
    room: &'a mut Vec<f32>,
    n_rows: usize,
    n_cols: usize,
    transposed: bool,
) -> Matrix<'a> {
    if !transposed {
        return Matrix::new(data, n_rows, n_cols);
    }
    *room = (0..data.len()).map(|i| data[i % n_rows * n_cols + i / n_rows]).collect();
    Matrix::new(room, n_cols, n_rows).transposed()
}

#[test]
fn products_equal_double_precision_in_every_shape_and_order() {
    let shapes = [
        (1, 1, 1),
        (1, 70, 3),
        (6, 64, 256),
        (7, 65, 257),
        (13, 16, 512),
        (97, 130, 100),
        (100, 5, 1031),
        (200, 200, 600),
    ];
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16] {
            let is_bf16 = precision == Precision::Bf16 && isa.has_bf16();
            let round = |x: f32| f64::from(if is_bf16 { bf16::from_f32(x).to_f32() } else { x });
            let pool = Pool::new(2, isa).unwrap();
            for (m, n, k) in shapes {
                let (left, right, before) =
                    (random_floats(1, m * k), random_floats(2, k * n), random_floats(3, m * n));
                for order in 0..8 {
                    let (mut left_room, mut right_room) = (Vec::new(), Vec::new());
                    let a = stored(&left, &mut left_room, m, k, order & 1 != 0);
                    let b = stored(&right, &mut right_room, k, n, order & 2 != 0);
                    let into = if order & 4 != 0 { Store::Add } else { Store::Replace };
                    let mut out = before.clone();
                    matmul(&pool, precision, a, b, &mut out, into);
                    for (i, &x) in out.iter().enumerate() {
                        let (row, col) = (i / n, i % n);
                        let terms = (0..k).map(|j| round(left[row * k + j]) * round(right[j * n + col]));
                        let start = if into == Store::Add { f64::from(before[i]) } else { 0.0 };
                        let (sum, size) =
                            terms.fold((start, start.abs()), |(sum, size), x| (sum + x, size + x.abs()));
                        let error = (f64::from(x) - sum).abs();
                        assert!(
                            error <= 1e-6 * size,
                            "{isa:?} {precision:?} {m}x{n}x{k} order {order}: {x} for {sum}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_with_any_threads_and_among_any_others() {
    let (m, n, k) = (150, 140, 700);
    let (left, right) = (random_floats(1, m * k), random_floats(2, k * n));
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16] {
            let product = |n_threads: usize, n_rows: usize| {
                let mut out = vec![0.0; n_rows * n];
                let pool = Pool::new(n_threads, isa).unwrap();
                let rows = Matrix::new(&left[..n_rows * k], n_rows, k);
                matmul(&pool, precision, rows, Matrix::new(&right, k, n), &mut out, Store::Replace);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let whole = product(1, m);
            assert_eq!(product(3, m), whole);
            for n_rows in [1, 5, 100] {
                assert_eq!(product(2, n_rows), whole[..n_rows * n]);
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for isa in isas() {
        let pool = Pool::new(1, isa).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            for x in [f32::NAN, f32::from_bits(0x7fff_ffff), f32::INFINITY, -f32::INFINITY] {
                let mut left = vec![1.0; 2 * 8];
                left[3] = x;
                let right = vec![1.0; 8 * 20];
                let mut out = vec![0.0; 2 * 20];
                matmul(
                    &pool,
                    precision,
                    Matrix::new(&left, 2, 8),
                    Matrix::new(&right, 8, 20),
                    &mut out,
                    Store::Replace,
                );
                assert!(
                    out[..20].iter().all(|y| if x.is_nan() { y.is_nan() } else { *y == x }),
                    "{x}: {out:?}"
                );
                assert!(out[20..].iter().all(|&y| y == 8.0));
            }
        }
    }
}

#[test]
fn a_product_of_nothing_is_zero() {
    let pool = Pool::new(1, Isa::Scalar).unwrap();
    let mut out = [5.0; 6];
    matmul(&pool, Precision::F32, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), &mut out, Store::Add);
    assert_eq!(out, [5.0; 6]);
    matmul(&pool, Precision::F32, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), &mut out, Store::Replace);
    assert_eq!(out, [0.0; 6]);
}

#[test]
fn a_stored_matrix_is_as_good_as_its_numbers() {
    let (m, n_rows) = (7, 270);
    for isa in isas() {
        let pool = Pool::new(2, isa).unwrap();
        for ty in WeightType::ALL {
            for n_cols in [512, 288].into_iter().filter(|n| n % ty.block_len() == 0) {
                let bytes = random_blocks(ty, 5, n_rows * n_cols);
                let mut numbers = vec![0.0; n_rows * n_cols];
                dequantize(ty, &bytes, &mut numbers);
                let numbers = Matrix::new(&numbers, n_rows, n_cols);
                let stored = StoredMatrix::new(ty, &bytes, n_rows, n_cols);
                let left = random_floats(2, m * n_rows.max(n_cols));
                for precision in [Precision::F32, Precision::Bf16] {
                    let product = |right: RightSide<'_>| {
                        let (k, n) = right.shape();
                        let mut out = vec![0.0; m * n];
                        let left = Matrix::new(&left[..m * k], m, k);
                        matmul(&pool, precision, left, right, &mut out, Store::Replace);
                        out
                    };
                    let what = format!("{isa:?} {precision:?} {ty:?} {n_cols}");
                    assert_eq!(product(stored.into()), product(numbers.into()), "{what}");
                    let (stored, numbers) = (stored.transposed(), numbers.transposed());
                    assert_eq!(product(stored.into()), product(numbers.into()), "{what}, transposed");
                }
            }
        }
    }
}

#[test]
fn a_right_side_that_is_packed_in_parts_gives_the_same_sums() {
    let (m, short, long) = (2, 544, 16_700);
    assert!(short * long > MAX_PACKED);
    let pool = Pool::new(2, Isa::detect()).unwrap();
    let ty = WeightType::Q8_0;
    let bytes = random_blocks(ty, 3, long * short);
    let mut numbers = vec![0.0; long * short];
    dequantize(ty, &bytes, &mut numbers);
    let left = random_floats(4, m * long);
    let product = |right: RightSide<'_>| {
        let (k, n) = right.shape();
        let mut out = vec![0.0; m * n];
        matmul(&pool, Precision::Bf16, Matrix::new(&left[..m * k], m, k), right, &mut out, Store::Replace);
        out
    };
    let stored = RightSide::from(StoredMatrix::new(ty, &bytes, long, short));
    for right in [stored, Matrix::new(&numbers, long, short).into()] {
        for right in [right, right.transposed()] {
            let (k, n) = right.shape();
            let whole = product(right);
            // A few columns alone are packed in one part.
            for some in [0..256, n / 256 * 256..n] {
                let part = product(right.part(0..k, some.clone()));
                for row in 0..m {
                    assert_eq!(whole[row * n..][some.clone()], part[row * some.len()..][..some.len()]);
                }
            }
        }
    }
}

#[test]
fn products_by_one_right_side_are_those_of_each_alone() {
    let (k, n) = (300, 70);
    let right = random_floats(1, k * n);
    let lefts = [7, 0, 100].map(|m| (m, random_floats(2 + m as u64, m * k)));
    for isa in isas() {
        let pool = Pool::new(2, isa).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let right = Matrix::new(&right, k, n);
            let left = |i: usize| Matrix::new(&lefts[i].1, lefts[i].0, k);
            let mut together = lefts.each_ref().map(|(m, _)| vec![1.0; m * n]);
            let [a, b, c] = &mut together;
            matmul_each(&pool, precision, &mut [(left(0), a), (left(1), b), (left(2), c)], right, Store::Add);
            for (i, together) in together.iter().enumerate() {
                let mut alone = vec![1.0; together.len()];
                matmul(&pool, precision, left(i), right, &mut alone, Store::Add);
                assert_eq!(*together, alone);
            }
        }
    }
}

/// The matrix rounded to bf16 beforehand, in the order in which it is stored.
fn rounded<'a>(pool: &Pool, matrix: Matrix<'_>, room: &'a mut FactorRoom) -> Matrix<'a> {
    let Factors::Floats(data) = matrix.data else { unreachable!("a matrix of floats") };
    copy(pool, data, room.room(data.len(), Precision::Bf16));
    let (n_rows, n_cols) = (data.len() / matrix.stride, matrix.stride);
    let of = Matrix::of(room.get(data.len(), Precision::Bf16), n_rows, n_cols);
    if matrix.is_transposed { of.transposed() } else { of }
}

#[test]
fn factors_that_were_rounded_beforehand_give_the_same_bits() {
    for isa in isas().filter(|isa| isa.has_bf16()) {
        let pool = Pool::new(2, isa).unwrap();
        for (m, n, k) in
            [(2, 2, 2), (6, 64, 256), (14, 66, 258), (98, 130, 1030), (200, 200, 600), (37, 90, 33)]
        {
            let (left, right) = (random_floats(1, m * k), random_floats(2, k * n));
            for order in 0..4 {
                let (mut left_room, mut right_room) = (Vec::new(), Vec::new());
                let a = stored(&left, &mut left_room, m, k, order & 1 != 0);
                let b = stored(&right, &mut right_room, k, n, order & 2 != 0);
                if !a.stride.is_multiple_of(2) || !b.stride.is_multiple_of(2) {
                    continue;
                }
                let (mut a_room, mut b_room) = (FactorRoom::default(), FactorRoom::default());
                let (a_halves, b_halves) = (rounded(&pool, a, &mut a_room), rounded(&pool, b, &mut b_room));
                let product = |a: Matrix<'_>, b: Matrix<'_>| {
                    let mut out = vec![0.0; m * n];
                    matmul(&pool, Precision::Bf16, a, b, &mut out, Store::Replace);
                    out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let expected = product(a, b);
                for (a, b) in [(a_halves, b_halves), (a_halves, b), (a, b_halves)] {
                    assert!(product(a, b) == expected, "{isa:?} {m}x{n}x{k} order {order}");
                }
            }
        }
    }
}

#[test]
fn factors_are_put_and_read_as_they_are_rounded() {
    for isa in isas() {
        let pool = Pool::new(2, isa).unwrap();
        for n in [0, 2, 14, 16, 30, 1000, 40_002] {
            let x = random_floats(n as u64, n);
            for precision in [Precision::F32, Precision::Bf16] {
                let expected: Vec<f32> = match precision {
                    Precision::F32 => x.clone(),
                    Precision::Bf16 => x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
                };
                let mut room = FactorRoom::default();
                copy(&pool, &x, room.room(n, precision));
                let found = room.get(n, precision);
                assert_eq!((0..n).map(|i| found.get(i)).collect::<Vec<_>>(), expected);
                let mut sums = vec![1.0; n];
                found.add_to(&mut sums);
                assert!(sums.iter().zip(&expected).all(|(sum, x)| *sum == 1.0 + x));
                let mut to = room.room(n, precision);
                for at in 0..n.min(3) {
                    to.set(at, 2.0 + at as f32);
                }
                let found = room.get(n, precision);
                let changed = (0..n).map(|i| if i < 3 { 2.0 + i as f32 } else { expected[i] });
                assert!(changed.enumerate().all(|(i, x)| found.get(i) == x), "{isa:?} {precision:?} {n}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "halves are factors of products in bf16")]
fn halves_are_refused_where_products_are_in_single_precision() {
    let pool = Pool::new(1, Isa::Scalar).unwrap();
    let left = Matrix::of(Factors::Halves(&[0; 2]), 2, 2);
    matmul(&pool, Precision::F32, left, Matrix::new(&[0.0; 4], 2, 2), &mut [0.0; 4], Store::Replace);
}
