//! Products: the catalogue for everybody, its upkeep for staff.

use async_graphql::{Context, Enum, Error, ID, InputObject, Object, SimpleObject};

use super::connections::{Connection, TEXT_COST, mutation_cost, page_cost, page_request, root_cost};
use super::context::{Shop, answered};
use super::cursors::CursorKind;
use super::errors::{Inputs, Problem, UserError, bad_input, query_error, user_errors};
use super::money::{Money, MoneyInput};
use super::scalars::{Cursor, DateTime};
use crate::actors::errors::DomainError;
use crate::actors::products::messages::{
    AdjustStock, CreateProduct, EditProduct, GetProducts, ListCategories, ListProducts,
};
use crate::domain::ids::ProductId;
use crate::domain::money::Currency;
use crate::domain::products::{
    Category as DomainCategory, NewProduct, Product as DomainProduct, ProductEdit, ProductFilter,
    ProductSort as DomainSort,
};
use crate::domain::text::{MAX_NAME, check_text};
use crate::store::products::StockAdjustment;

/// The longest text to search for.
const MAX_SEARCH: usize = 200;
/// The most categories of one filter.
const MAX_CATEGORIES: usize = 100;

/// A product of the catalogue.
#[derive(Clone)]
pub struct Product(pub DomainProduct);

/// Something the shop sells.
#[Object]
impl Product {
    /// The product's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The stock keeping unit: the shop's own number for it, unique.
    async fn sku(&self) -> &str {
        &self.0.sku
    }

    /// What it is called.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is like.
    #[graphql(complexity = "TEXT_COST")]
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// Where in the shop it is found.
    async fn category(&self) -> &str {
        &self.0.category
    }

    /// What one piece costs now.
    async fn price(&self) -> Money {
        self.0.price.into()
    }

    /// How many pieces can be ordered now.
    async fn available(&self) -> i32 {
        self.0.available
    }

    /// True when it is no longer sold. It stays readable for those who ordered it.
    async fn archived(&self) -> bool {
        self.0.archived
    }

    /// Counts the edits of description, price and archiving from 1; stock does not count.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// When it came into the catalogue.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it was last edited; stock does not count.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
}

/// A part of the catalogue.
#[derive(SimpleObject)]
pub struct Category {
    /// What it is called.
    name: String,
    /// How many products of it are on sale.
    product_count: i32,
}

impl From<DomainCategory> for Category {
    fn from(category: DomainCategory) -> Self {
        Self { name: category.name, product_count: i32::try_from(category.product_count).unwrap_or(i32::MAX) }
    }
}

/// Which products a list holds. What is left out does not filter.
#[derive(InputObject, Default)]
pub struct ProductWhere {
    /// Words to be found in name, category, description or SKU.
    search: Option<String>,
    /// Any of these categories.
    category: Option<Vec<String>>,
    /// True: only what is in stock. False: only what is not.
    in_stock: Option<bool>,
    /// The lowest price, inclusive.
    min_price: Option<MoneyInput>,
    /// The highest price, inclusive.
    max_price: Option<MoneyInput>,
}

impl ProductWhere {
    fn filter(self, shop: Currency) -> Result<ProductFilter, Problem> {
        let text = |name: &'static str, text: &str, max: usize| {
            check_text(name, text, 0, max).map_err(|refusal| Problem::new(name, refusal))
        };
        if let Some(search) = &self.search {
            text("search", search, MAX_SEARCH)?;
        }
        let categories = self.category.as_ref().map_or(0, Vec::len);
        if categories > MAX_CATEGORIES {
            let reason = format!("{categories} categories are named, at most {MAX_CATEGORIES} are allowed");
            return Err(Problem::new("category", reason));
        }
        for category in self.category.iter().flatten() {
            text("category", category, MAX_NAME)?;
        }
        let price = |name: &'static str, bound: Option<MoneyInput>| {
            bound
                .map(|money| money.in_currency(shop).map(|money| money.minor_units))
                .transpose()
                .map_err(|problem| problem.within(name))
        };
        Ok(ProductFilter {
            search: self.search,
            categories: self.category,
            in_stock: self.in_stock,
            min_price: price("minPrice", self.min_price)?,
            max_price: price("maxPrice", self.max_price)?,
        })
    }
}

/// The order of a list of products. Equal ones are ordered by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainSort")]
pub enum ProductSort {
    /// What fits the search best comes first; without a search as NAME.
    Relevance,
    /// What came into the catalogue last comes first.
    Newest,
    /// By name, ascending.
    Name,
    /// The cheapest first.
    #[graphql(name = "PRICE_ASC")]
    PriceAscending,
    /// The dearest first.
    #[graphql(name = "PRICE_DESC")]
    PriceDescending,
}

/// A new product.
#[derive(InputObject)]
pub struct ProductCreateInput {
    /// The stock keeping unit, 1 to 64 characters, unique in the shop.
    sku: String,
    /// What it is called, 1 to 100 characters.
    name: String,
    /// What it is like, up to 5,000 characters; empty unless given.
    description: Option<String>,
    /// Where in the shop it is found, 1 to 100 characters.
    category: String,
    /// What one piece costs, in the shop's currency.
    price: MoneyInput,
    /// How many pieces there are.
    available: i32,
}

/// An edit of a product: what is left out stays as it is.
#[derive(InputObject)]
pub struct ProductUpdateInput {
    /// What it is called, 1 to 100 characters.
    name: Option<String>,
    /// What it is like, up to 5,000 characters.
    description: Option<String>,
    /// Where in the shop it is found, 1 to 100 characters.
    category: Option<String>,
    /// What one piece costs, in the shop's currency.
    price: Option<MoneyInput>,
    /// The version that you have read; when there is a newer one, nothing is changed and the error is CONFLICT.
    expected_version: i32,
}

/// What a mutation of a product answers.
#[derive(SimpleObject)]
pub struct ProductPayload {
    /// The product after the change; null when it was refused.
    product: Option<Product>,
    /// Why nothing was changed; empty when it was.
    user_errors: Vec<UserError>,
}

impl ProductPayload {
    fn answer(ctx: &Context<'_>, inputs: Inputs, result: Result<DomainProduct, DomainError>) -> Result<Self, Error> {
        Ok(match result {
            Ok(product) => Self { product: Some(Product(product)), user_errors: Vec::new() },
            Err(error) => Self { product: None, user_errors: user_errors(ctx, inputs, error)? },
        })
    }
}

fn no_such_product() -> DomainError {
    DomainError::NotFound { what: "the product", field: Vec::new() }
}

/// The product of an id, archived or not.
pub async fn product_by_id(ctx: &Context<'_>, id: ProductId) -> Result<Option<Product>, Error> {
    let shop = ctx.data::<Shop>()?;
    let products = answered(shop.products.ask(GetProducts { ids: vec![id] }, shop.ask_deadline).await);
    Ok(products.map_err(|error| query_error(ctx, error))?.into_iter().next().map(Product))
}

#[derive(Default)]
pub struct ProductQuery;

#[Object]
impl ProductQuery {
    /// A product by id, archived or not; null when there is none.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id.")] id: ID,
    ) -> Result<Option<Product>, Error> {
        match id.parse() {
            Ok(id) => product_by_id(ctx, id).await,
            Err(_) => Ok(None),
        }
    }

    /// The products on sale.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor; it is good only under the same `where` and `sort`.")]
        after: Option<Cursor>,
        #[graphql(name = "where", desc = "Which products.")] filter: Option<ProductWhere>,
        #[graphql(desc = "In which order; RELEVANCE unless given.")] sort: Option<ProductSort>,
    ) -> Result<Connection<Product>, Error> {
        let page = page_request(ctx, first, after.as_ref(), CursorKind::Products)?;
        let shop = ctx.data::<Shop>()?;
        let filter = filter.unwrap_or_default().filter(shop.currency).map_err(|problem| {
            let problem = problem.within("where");
            bad_input(&problem.field.join("."), problem.reason)
        })?;
        let sort = sort.map_or(DomainSort::Relevance, DomainSort::from);
        let page = answered(shop.products.ask(ListProducts { filter, sort, page }, shop.ask_deadline).await)
            .map_err(|error| query_error(ctx, error))?;
        Ok(Connection::of(page, CursorKind::Products, Product))
    }

    /// The categories that have products on sale, by name.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn categories(&self, ctx: &Context<'_>) -> Result<Vec<Category>, Error> {
        let shop = ctx.data::<Shop>()?;
        let categories = answered(shop.products.ask(ListCategories, shop.ask_deadline).await);
        Ok(categories.map_err(|error| query_error(ctx, error))?.into_iter().map(Category::from).collect())
    }
}

#[derive(Default)]
pub struct ProductMutation;

#[Object]
impl ProductMutation {
    /// Adds a product to the catalogue.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn product_create(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new product.")] input: ProductCreateInput,
    ) -> Result<ProductPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match input.price.in_currency(shop.currency) {
            Ok(price) => {
                let product = NewProduct {
                    sku: input.sku,
                    name: input.name,
                    description: input.description.unwrap_or_default(),
                    category: input.category,
                    price,
                    available: input.available,
                };
                answered(shop.products.ask(CreateProduct { product }, shop.ask_deadline).await)
            }
            Err(problem) => Err(problem.within("price").into()),
        };
        ProductPayload::answer(ctx, Inputs::OBJECT, result)
    }

    /// Edits a product. The price of orders that exist does not change.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn product_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id.")] id: ID,
        #[graphql(desc = "The edit.")] input: ProductUpdateInput,
    ) -> Result<ProductPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let price = input.price.map(|price| price.in_currency(shop.currency)).transpose();
        let result = match (id.parse(), price) {
            (Err(_), _) => Err(no_such_product()),
            (Ok(_), Err(problem)) => Err(problem.within("price").into()),
            (Ok(id), Ok(price)) => {
                let edit = ProductEdit {
                    name: input.name,
                    description: input.description,
                    category: input.category,
                    price,
                    archive: false,
                };
                let message = EditProduct { id, expected_version: input.expected_version, edit };
                answered(shop.products.ask(message, shop.ask_deadline).await)
            }
        };
        ProductPayload::answer(ctx, Inputs::OBJECT.about("id"), result)
    }

    /// Takes a product out of sale for good.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn product_archive(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id.")] id: ID,
        #[graphql(desc = "The version that you have read; when there is a newer one, the error is CONFLICT.")]
        expected_version: i32,
    ) -> Result<ProductPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match id.parse() {
            Ok(id) => {
                let edit = ProductEdit { archive: true, ..ProductEdit::default() };
                answered(shop.products.ask(EditProduct { id, expected_version, edit }, shop.ask_deadline).await)
            }
            Err(_) => Err(no_such_product()),
        };
        ProductPayload::answer(ctx, Inputs::PLAIN.about("id"), result)
    }

    /// Adds pieces to a product's stock or takes some away.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn stock_adjust(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id.")] product_id: ID,
        #[graphql(desc = "How many pieces come in; negative: how many go out.")] delta: i32,
        #[graphql(desc = "Why, up to 5,000 characters.")] reason: String,
        #[graphql(desc = "Repeating the same request under the same key adjusts once. 1 to 255 characters.")]
        idempotency_key: Option<String>,
    ) -> Result<ProductPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match product_id.parse() {
            Ok(product_id) => {
                let adjustment = StockAdjustment { product_id, delta, reason, idempotency_key };
                answered(shop.products.ask(AdjustStock { adjustment }, shop.ask_deadline).await)
            }
            Err(_) => Err(no_such_product()),
        };
        ProductPayload::answer(ctx, Inputs::PLAIN.about("productId"), result)
    }
}
