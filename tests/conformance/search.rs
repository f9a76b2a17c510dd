//! Lists and search of the products store.

use souk::domain::ids::ProductId;
use souk::domain::page::PageRequest;
use souk::domain::products::{ProductEdit, ProductFilter, ProductSort};
use souk::domain::search::{indexed_words, score, words};
use souk::store::StoreError;
use souk::store::products::{InsertProduct, ProductStore};

use crate::harness::{Under, at, named_product};

type Products = Under<dyn ProductStore>;

conformance!(products:
    every_sort_orders_the_list,
    every_filter_narrows_the_list,
    price_bounds_are_inclusive,
    a_search_ranks_as_the_domain_scores,
    a_search_follows_edits,
    a_search_obeys_filters_and_sorts,
    pages_are_stable_while_products_come_and_go,
    a_cursor_of_another_list_is_refused,
);

const SORTS: [ProductSort; 5] = [
    ProductSort::Relevance,
    ProductSort::Newest,
    ProductSort::Name,
    ProductSort::PriceAscending,
    ProductSort::PriceDescending,
];

async fn insert(products: &Products, new: (&str, &str, &str, &str, i64, i32)) -> ProductId {
    let (sku, name, category, description, price, available) = new;
    let (product, event) = named_product(sku, name, category, description, price, available);
    let id = product.id;
    assert_eq!(products.port.insert_product(product, event).await.unwrap(), InsertProduct::Inserted);
    id
}

/// Five products; their SKUs are what the cases expect.
async fn filled(products: &Products) {
    insert(products, ("LMP-100", "Brass Lamp", "Lighting", "For the reading-desk.", 500, 3)).await;
    insert(products, ("LMP-200", "Desk Lamp", "Lighting", "", 300, 0)).await;
    insert(products, ("DSK-1", "Oak Desk", "Furniture", "Has room for a lamp.", 500, 1)).await;
    insert(products, ("CHR-1", "Oak Chair", "Furniture", "", 200, 9)).await;
    insert(products, ("RUG-1", "Carpet", "Lamps & more", "Ünïcode", 900, 2)).await;
}

/// The SKUs of a whole list, read in pages of two.
async fn skus(products: &Products, filter: &ProductFilter, sort: ProductSort) -> Vec<String> {
    let mut request = PageRequest::first(2);
    let mut listed = Vec::new();
    let mut total;
    loop {
        let page = products.port.list_products(filter, sort, &request).await.unwrap();
        total = page.total;
        listed.extend(page.entries.iter().map(|(_, product)| product.sku.clone()));
        assert_eq!(page.has_previous, request.after.is_some());
        if !page.has_next {
            break;
        }
        request.after = page.entries.last().map(|(cursor, _)| cursor.clone());
    }
    assert_eq!(total, listed.len() as u64, "{filter:?} {sort:?}");
    listed
}

fn search(text: &str) -> ProductFilter {
    ProductFilter { search: Some(text.into()), ..ProductFilter::default() }
}

async fn every_sort_orders_the_list(products: Products) {
    filled(&products).await;
    for (sort, expected) in [
        (ProductSort::Relevance, ["LMP-100", "RUG-1", "LMP-200", "CHR-1", "DSK-1"]),
        (ProductSort::Name, ["LMP-100", "RUG-1", "LMP-200", "CHR-1", "DSK-1"]),
        (ProductSort::Newest, ["RUG-1", "CHR-1", "DSK-1", "LMP-200", "LMP-100"]),
        (ProductSort::PriceAscending, ["CHR-1", "LMP-200", "LMP-100", "DSK-1", "RUG-1"]),
        (ProductSort::PriceDescending, ["RUG-1", "LMP-100", "DSK-1", "LMP-200", "CHR-1"]),
    ] {
        assert_eq!(skus(&products, &ProductFilter::default(), sort).await, expected, "{sort:?}");
        assert_eq!(skus(&products, &search(" -- "), sort).await, expected, "{sort:?} without words");
    }
}

async fn every_filter_narrows_the_list(products: Products) {
    filled(&products).await;
    let categories = |names: &[&str]| ProductFilter {
        categories: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..ProductFilter::default()
    };
    for (filter, expected) in [
        (categories(&["Furniture"]), vec!["CHR-1", "DSK-1"]),
        (categories(&["Furniture", "Lighting", "Furniture"]), vec!["LMP-100", "LMP-200", "CHR-1", "DSK-1"]),
        (categories(&["furniture"]), vec![]),
        (categories(&[]), vec![]),
        (
            ProductFilter { in_stock: Some(true), ..ProductFilter::default() },
            vec!["LMP-100", "RUG-1", "CHR-1", "DSK-1"],
        ),
        (ProductFilter { in_stock: Some(false), ..ProductFilter::default() }, vec!["LMP-200"]),
        (ProductFilter { in_stock: Some(false), ..categories(&["Furniture"]) }, vec![]),
        (ProductFilter { max_price: Some(300), in_stock: Some(true), ..categories(&["Furniture"]) }, vec!["CHR-1"]),
    ] {
        assert_eq!(skus(&products, &filter, ProductSort::Name).await, expected, "{filter:?}");
    }
}

async fn price_bounds_are_inclusive(products: Products) {
    filled(&products).await;
    for (min_price, max_price, expected) in [
        (Some(500), None, vec!["LMP-100", "DSK-1", "RUG-1"]),
        (None, Some(300), vec!["CHR-1", "LMP-200"]),
        (Some(300), Some(500), vec!["LMP-200", "LMP-100", "DSK-1"]),
        (Some(500), Some(500), vec!["LMP-100", "DSK-1"]),
        (Some(501), Some(500), vec![]),
        (Some(i64::MIN), Some(i64::MAX), vec!["CHR-1", "LMP-200", "LMP-100", "DSK-1", "RUG-1"]),
    ] {
        for text in [None, Some(String::new())] {
            let filter = ProductFilter { min_price, max_price, search: text, ..ProductFilter::default() };
            assert_eq!(skus(&products, &filter, ProductSort::PriceAscending).await, expected);
        }
    }
}

async fn a_search_ranks_as_the_domain_scores(products: Products) {
    filled(&products).await;
    for (text, expected) in [
        // Name, whole word 8 each (by name); beginning in the category 2; description 2: by name again.
        ("lamp", vec!["LMP-100", "LMP-200", "RUG-1", "DSK-1"]),
        ("lmp", vec!["LMP-100", "LMP-200"]),
        ("100", vec!["LMP-100"]),
        ("OAK", vec!["CHR-1", "DSK-1"]),
        ("desk lamp", vec!["LMP-200", "LMP-100", "DSK-1"]),
        ("desk desk lamp", vec!["LMP-200", "DSK-1", "LMP-100"]),
        ("ünï", vec!["RUG-1"]),
        ("amp", vec![]),
        ("lamp sofa", vec![]),
        ("l", vec!["LMP-100", "LMP-200", "RUG-1", "DSK-1"]),
    ] {
        let all = products
            .port
            .list_products(&ProductFilter::default(), ProductSort::Name, &PageRequest::first(100))
            .await
            .unwrap();
        let query = words(text);
        let mut scored: Vec<_> = all
            .entries
            .iter()
            .filter_map(|(_, product)| {
                let score = score(&query, &indexed_words(&product.searched_fields()))?;
                Some((std::cmp::Reverse(score), product.name.clone(), product.id, product.sku.clone()))
            })
            .collect();
        scored.sort();
        let by_domain: Vec<String> = scored.into_iter().map(|(_, _, _, sku)| sku).collect();
        let found = skus(&products, &search(text), ProductSort::Relevance).await;
        assert_eq!(found, by_domain, "{text}");
        assert_eq!(found, expected, "{text}");
    }
}

async fn a_search_follows_edits(products: Products) {
    let id = insert(&products, ("A", "Brass Lamp", "Lighting", "brass", 1, 1)).await;
    let edit = ProductEdit {
        name: Some("Copper Kettle".into()),
        description: Some("copper".into()),
        ..ProductEdit::default()
    };
    products.port.edit_product(id, 1, edit, at(2)).await.unwrap();
    for (text, found) in [("brass", 0), ("lamp", 0), ("copper", 1), ("kett", 1), ("lighting", 1), ("a", 1)] {
        assert_eq!(skus(&products, &search(text), ProductSort::Relevance).await.len(), found, "{text}");
    }
    products.port.edit_product(id, 2, ProductEdit { archive: true, ..ProductEdit::default() }, at(3)).await.unwrap();
    assert_eq!(skus(&products, &search("copper"), ProductSort::Relevance).await.len(), 0);
}

async fn a_search_obeys_filters_and_sorts(products: Products) {
    filled(&products).await;
    let lamps = search("lamp");
    for (sort, expected) in [
        (ProductSort::Newest, vec!["RUG-1", "DSK-1", "LMP-200", "LMP-100"]),
        (ProductSort::Name, vec!["LMP-100", "RUG-1", "LMP-200", "DSK-1"]),
        (ProductSort::PriceAscending, vec!["LMP-200", "LMP-100", "DSK-1", "RUG-1"]),
        (ProductSort::PriceDescending, vec!["RUG-1", "LMP-100", "DSK-1", "LMP-200"]),
    ] {
        assert_eq!(skus(&products, &lamps, sort).await, expected, "{sort:?}");
    }
    for (filter, expected) in [
        (ProductFilter { categories: Some(vec!["Lighting".into()]), ..lamps.clone() }, vec!["LMP-100", "LMP-200"]),
        (ProductFilter { in_stock: Some(true), ..lamps.clone() }, vec!["LMP-100", "RUG-1", "DSK-1"]),
        (ProductFilter { min_price: Some(500), max_price: Some(500), ..lamps.clone() }, vec!["LMP-100", "DSK-1"]),
    ] {
        assert_eq!(skus(&products, &filter, ProductSort::Relevance).await, expected, "{filter:?}");
    }
}

async fn pages_are_stable_while_products_come_and_go(products: Products) {
    // Equal names and prices: only the ids tell them apart.
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(insert(&products, (&format!("S-{n}"), "Lamp", "Lighting", "", 100, 1)).await);
    }
    for (number, sort) in SORTS.into_iter().enumerate() {
        for filter in [ProductFilter::default(), search("lamp")] {
            let before: Vec<String> = skus(&products, &filter, sort).await;
            let mut request = PageRequest::first(3);
            let mut seen = Vec::new();
            let mut newcomers = Vec::new();
            loop {
                let page = products.port.list_products(&filter, sort, &request).await.unwrap();
                seen.extend(page.entries.iter().map(|(_, product)| product.sku.clone()));
                let Some((cursor, last)) = page.entries.last() else { break };
                // What comes sorts anywhere; what has been read goes, the cursor's own product too.
                for (name, price) in [("Aaa Lamp", 1), ("Lamp", 100), ("Zzz Lamp", 999)] {
                    let sku = format!("N-{number}-{}-{}", filter.search.is_some(), newcomers.len());
                    newcomers.push((insert(&products, (&sku, name, "Lighting", "", price, 1)).await, 1));
                }
                if last.sku.starts_with("S-") {
                    let edit = ProductEdit { archive: true, ..ProductEdit::default() };
                    products.port.edit_product(last.id, last.version, edit, at(2)).await.unwrap();
                    newcomers.push((
                        insert(&products, (&format!("{}'", last.sku), "Lamp", "Lighting", "", 100, 1)).await,
                        0,
                    ));
                }
                request.after = Some(cursor.clone());
                if seen.len() > 60 || !page.has_next {
                    break;
                }
            }
            let old: Vec<&String> = seen.iter().filter(|sku| before.contains(*sku)).collect();
            assert_eq!(old, before.iter().collect::<Vec<_>>(), "{sort:?} {filter:?}");
            for (id, _) in newcomers {
                let edit = ProductEdit { archive: true, ..ProductEdit::default() };
                products.port.edit_product(id, 1, edit, at(2)).await.unwrap();
            }
            // Nine again for the next sort.
            let left = skus(&products, &ProductFilter::default(), ProductSort::Name).await.len();
            for n in left..9 {
                let sku = format!("S-{number}-{}-{n}", filter.search.is_some());
                insert(&products, (&sku, "Lamp", "Lighting", "", 100, 1)).await;
            }
        }
    }
}

async fn a_cursor_of_another_list_is_refused(products: Products) {
    filled(&products).await;
    let page = |sort, filter: ProductFilter, after: Option<String>| {
        let port = products.port.clone();
        async move { port.list_products(&filter, sort, &PageRequest { first: 1, after }).await }
    };
    let first = page(ProductSort::Newest, ProductFilter::default(), None).await.unwrap();
    let cursor = first.entries[0].0.clone();
    assert!(page(ProductSort::Newest, ProductFilter::default(), Some(cursor.clone())).await.is_ok());
    for (sort, filter) in [
        (ProductSort::Name, ProductFilter::default()),
        (ProductSort::PriceAscending, ProductFilter::default()),
        (ProductSort::Relevance, search("lamp")),
    ] {
        let refused = page(sort, filter, Some(cursor.clone())).await;
        assert!(matches!(refused, Err(StoreError::InvalidCursor)), "{sort:?}");
    }
    for broken in ["", "?", "AAAA", "eyJuZXdlc3QiOjF9"] {
        let refused = page(ProductSort::Newest, ProductFilter::default(), Some(broken.into())).await;
        assert!(matches!(refused, Err(StoreError::InvalidCursor)), "{broken}");
    }
}
