//! The catalogue of the products store; see `search` for its lists and `inventory` for its decisions.

use souk::domain::events::{PendingEvent, event_type};
use souk::domain::ids::ProductId;
use souk::domain::page::PageRequest;
use souk::domain::products::{Category, Product, ProductEdit, ProductFilter, ProductSort, StockOutOfRange};
use souk::store::products::{AdjustStock, EditProduct, InsertProduct, ProductStore, StockAdjustment};

use crate::harness::{Under, at, eur, id, named_product, product};

type Products = Under<dyn ProductStore>;

conformance!(products:
    a_saved_product_is_found_as_it_was,
    unknown_products_are_absent,
    a_sku_belongs_to_one_product_also_when_archived,
    a_product_is_saved_with_its_event_or_not_at_all,
    many_are_inserted_at_once_without_those_whose_sku_is_taken,
    an_edit_needs_the_version_that_it_saw,
    of_simultaneous_edits_one_wins,
    an_edit_announces_what_changed,
    categories_count_what_is_on_sale,
    stock_is_adjusted_within_its_range,
    an_adjustment_under_a_key_happens_once,
    an_adjustment_that_was_refused_keeps_its_key_free,
);

async fn insert(products: &Products, new: (Product, PendingEvent)) -> ProductId {
    let id = new.0.id;
    assert_eq!(products.port.insert_product(new.0, new.1).await.unwrap(), InsertProduct::Inserted);
    id
}

async fn get(products: &Products, id: ProductId) -> Product {
    products.port.products(&[id]).await.unwrap().pop().unwrap()
}

fn by(product_id: ProductId, delta: i32, key: Option<&str>) -> StockAdjustment {
    StockAdjustment { product_id, delta, reason: "count".into(), idempotency_key: key.map(str::to_owned) }
}

fn archive() -> ProductEdit {
    ProductEdit { archive: true, ..ProductEdit::default() }
}

async fn a_saved_product_is_found_as_it_was(products: Products) {
    let (saved, event) = named_product("LMP-1", "Lampe d'été", "Lighting", "a \"lamp\"", i64::MAX, 7);
    insert(&products, (saved.clone(), event.clone())).await;
    assert_eq!(products.port.products(&[saved.id]).await.unwrap(), [saved]);
    assert_eq!(products.pending().await, [event]);
    assert_eq!(products.port.count_products().await.unwrap(), 1);
}

async fn unknown_products_are_absent(products: Products) {
    assert_eq!(products.port.products(&[id()]).await.unwrap(), []);
    assert_eq!(products.port.edit_product(id(), 1, archive(), at(2)).await.unwrap(), EditProduct::NotFound);
    assert_eq!(products.port.adjust_stock(by(id(), 1, Some("k")), at(2)).await.unwrap(), AdjustStock::NotFound);
    assert_eq!(products.port.decisions(&[id()]).await.unwrap(), []);
    assert_eq!(products.port.categories().await.unwrap(), []);
}

async fn a_sku_belongs_to_one_product_also_when_archived(products: Products) {
    let first = insert(&products, product("A", 1)).await;
    let (second, event) = product("A", 1);
    assert_eq!(products.port.insert_product(second, event).await.unwrap(), InsertProduct::SkuTaken);
    products.port.edit_product(first, 1, archive(), at(2)).await.unwrap();
    let (third, event) = product("A", 1);
    assert_eq!(products.port.insert_product(third, event).await.unwrap(), InsertProduct::SkuTaken);
    assert_eq!(products.port.count_products().await.unwrap(), 1);
}

async fn a_product_is_saved_with_its_event_or_not_at_all(products: Products) {
    let (first, event) = product("A", 1);
    insert(&products, (first, event.clone())).await;
    let (lost, mut broken) = product("B", 1);
    broken.aggregate = event.aggregate;
    assert!(products.port.insert_product(lost.clone(), broken).await.is_err());
    assert_eq!(products.port.products(&[lost.id]).await.unwrap(), []);
    insert(&products, product("B", 1)).await;
}

async fn many_are_inserted_at_once_without_those_whose_sku_is_taken(products: Products) {
    insert(&products, product("S-3", 1)).await;
    let many = (0..10).map(|n| product(&format!("S-{n}"), n)).collect();
    products.port.insert_products(many).await.unwrap();
    assert_eq!(products.port.count_products().await.unwrap(), 10);
    assert_eq!(products.pending().await.len(), 10);
}

async fn an_edit_needs_the_version_that_it_saw(products: Products) {
    let id = insert(&products, product("A", 1)).await;
    let edit = ProductEdit { price: Some(eur(250)), ..ProductEdit::default() };
    let EditProduct::Edited(edited) = products.port.edit_product(id, 1, edit.clone(), at(5)).await.unwrap() else {
        panic!("version 1 is the one that is there")
    };
    assert_eq!((edited.version, edited.price, edited.updated_at), (2, eur(250), at(5)));
    assert_eq!(get(&products, id).await, edited);
    for stale in [1, 3] {
        let conflict = products.port.edit_product(id, stale, edit.clone(), at(6)).await.unwrap();
        assert_eq!(conflict, EditProduct::VersionConflict(edited.clone()));
    }
    assert_eq!(get(&products, id).await, edited);
}

async fn of_simultaneous_edits_one_wins(products: Products) {
    let id = insert(&products, product("A", 1)).await;
    let edits = (0..10).map(|n| {
        let port = products.port.clone();
        let edit = ProductEdit { name: Some(format!("Name {n}")), ..ProductEdit::default() };
        tokio::spawn(
            async move { matches!(port.edit_product(id, 1, edit, at(2)).await.unwrap(), EditProduct::Edited(_)) },
        )
    });
    let mut edited = 0;
    for edit in edits.collect::<Vec<_>>() {
        edited += usize::from(edit.await.unwrap());
    }
    assert_eq!((edited, get(&products, id).await.version), (1, 2));
}

async fn an_edit_announces_what_changed(products: Products) {
    let id = insert(&products, product("A", 1)).await;
    let rename = ProductEdit { name: Some("Other".into()), ..ProductEdit::default() };
    products.port.edit_product(id, 1, rename, at(2)).await.unwrap();
    products.port.edit_product(id, 2, archive(), at(3)).await.unwrap();
    let types: Vec<_> = products.pending().await.into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, [event_type::PRODUCT_CREATED, event_type::PRODUCT_UPDATED, event_type::PRODUCT_ARCHIVED]);
    let page = products
        .port
        .list_products(&ProductFilter::default(), ProductSort::Name, &PageRequest::first(9))
        .await
        .unwrap();
    assert_eq!(page.total, 0, "an archived product is in no list");
    assert!(get(&products, id).await.archived);
}

async fn categories_count_what_is_on_sale(products: Products) {
    for (sku, category) in [("A", "Lamps"), ("B", "Chairs"), ("C", "Lamps"), ("D", "Tables")] {
        let id = insert(&products, named_product(sku, "Name", category, "", 1, 1)).await;
        if sku == "D" {
            products.port.edit_product(id, 1, archive(), at(2)).await.unwrap();
        }
    }
    let category = |name: &str, product_count| Category { name: name.into(), product_count };
    assert_eq!(products.port.categories().await.unwrap(), [category("Chairs", 1), category("Lamps", 2)]);
}

async fn stock_is_adjusted_within_its_range(products: Products) {
    let id = insert(&products, product("A", 5)).await;
    let AdjustStock::Adjusted(adjusted) = products.port.adjust_stock(by(id, -5, None), at(2)).await.unwrap() else {
        panic!("5 pieces are there")
    };
    assert_eq!((adjusted.available, adjusted.version), (0, 1));
    assert_eq!(get(&products, id).await, adjusted);
    for (delta, would_be) in [(-1, -1), (i32::MIN, i64::from(i32::MIN))] {
        let refused = products.port.adjust_stock(by(id, delta, None), at(2)).await.unwrap();
        assert_eq!(refused, AdjustStock::OutOfRange(StockOutOfRange { would_be }));
    }
    products.port.adjust_stock(by(id, i32::MAX, None), at(2)).await.unwrap();
    let refused = products.port.adjust_stock(by(id, 1, None), at(2)).await.unwrap();
    assert!(matches!(refused, AdjustStock::OutOfRange(_)));
    assert_eq!(get(&products, id).await.available, i32::MAX);
    assert_eq!(products.pending().await.len(), 3);
}

async fn an_adjustment_under_a_key_happens_once(products: Products) {
    let one = insert(&products, product("A", 5)).await;
    let two = insert(&products, product("B", 5)).await;
    let calls = (0..10).map(|_| {
        let port = products.port.clone();
        tokio::spawn(async move { port.adjust_stock(by(one, 3, Some("k")), at(2)).await.unwrap() })
    });
    let mut adjusted = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            AdjustStock::Adjusted(_) => adjusted += 1,
            AdjustStock::Replayed(product) => assert_eq!(product.available, 8),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(adjusted, 1);
    for other in [by(one, 4, Some("k")), by(two, 3, Some("k")), by(id(), 3, Some("k"))] {
        assert_eq!(products.port.adjust_stock(other, at(3)).await.unwrap(), AdjustStock::KeyReused);
    }
    assert_eq!(get(&products, one).await.available, 8);
    assert_eq!(get(&products, two).await.available, 5);
}

async fn an_adjustment_that_was_refused_keeps_its_key_free(products: Products) {
    let id = insert(&products, product("A", 5)).await;
    products.port.adjust_stock(by(id, -6, Some("k")), at(2)).await.unwrap();
    let adjusted = products.port.adjust_stock(by(id, -5, Some("k")), at(2)).await.unwrap();
    assert!(matches!(adjusted, AdjustStock::Adjusted(_)));
}
