//! The demo's catalogue and people: made from word lists by a fixed rule, so that every demo shop is the same.

use crate::domain::money::{Currency, Money};
use crate::domain::products::NewProduct;

/// Products of a demo shop.
pub const PRODUCTS: usize = 200;
/// Customers of a demo shop, the one whose sign-in is printed among them.
pub const CUSTOMERS: usize = 50;
/// Orders of a demo shop.
pub const ORDERS: usize = 500;

struct Line {
    category: &'static str,
    code: &'static str,
    materials: [&'static str; 6],
    things: [&'static str; 6],
    /// Of the cheapest and the dearest, in major units.
    prices: (i64, i64),
    use_of_it: &'static str,
}

const LINES: [Line; 12] = [
    Line {
        category: "Lighting",
        code: "LGT",
        materials: ["Brass", "Opal Glass", "Rattan", "Walnut", "Linen", "Ceramic"],
        things: ["Desk Lamp", "Floor Lamp", "Pendant", "Wall Light", "Lantern", "Reading Lamp"],
        prices: (29, 189),
        use_of_it: "Throws a warm, even light and takes any standard bulb",
    },
    Line {
        category: "Kitchen",
        code: "KIT",
        materials: ["Cast Iron", "Copper", "Olive Wood", "Stoneware", "Enamel", "Steel"],
        things: ["Skillet", "Saucepan", "Chopping Board", "Casserole", "Kettle", "Mixing Bowl"],
        prices: (15, 149),
        use_of_it: "Goes from stove to table and cleans easily",
    },
    Line {
        category: "Coffee & Tea",
        code: "CFT",
        materials: ["Ethiopian", "Colombian", "Darjeeling", "Sencha", "Earl Grey", "House Blend"],
        things: ["Beans 250 g", "Beans 1 kg", "Ground Coffee", "Loose Leaf Tin", "Sampler", "Gift Box"],
        prices: (6, 48),
        use_of_it: "Roasted or packed in small batches every week",
    },
    Line {
        category: "Textiles",
        code: "TEX",
        materials: ["Linen", "Merino", "Organic Cotton", "Mohair", "Hemp", "Alpaca"],
        things: ["Throw", "Bedspread", "Tea Towel", "Cushion Cover", "Tablecloth", "Bath Towel"],
        prices: (9, 159),
        use_of_it: "Softer with every wash and woven to last",
    },
    Line {
        category: "Books",
        code: "BOK",
        materials: ["Illustrated", "Pocket", "Annotated", "Collected", "Modern", "Complete"],
        things: ["Atlas of Markets", "Spice Companion", "Book of Knots", "Garden Year", "Bread Handbook", "Map Reader"],
        prices: (8, 65),
        use_of_it: "Sewn binding, lies flat when open",
    },
    Line {
        category: "Toys",
        code: "TOY",
        materials: ["Wooden", "Knitted", "Magnetic", "Painted", "Felt", "Tin"],
        things: ["Train Set", "Building Blocks", "Puzzle", "Spinning Top", "Animal Family", "Kite"],
        prices: (7, 79),
        use_of_it: "Made for small hands, tested beyond the standard",
    },
    Line {
        category: "Garden",
        code: "GRD",
        materials: ["Galvanised", "Terracotta", "Ash", "Forged", "Willow", "Zinc"],
        things: ["Watering Can", "Planter", "Hand Fork", "Trowel", "Trellis", "Bird Bath"],
        prices: (11, 119),
        use_of_it: "Left outside all year it only gets better",
    },
    Line {
        category: "Stationery",
        code: "STA",
        materials: ["Dotted", "Ruled", "Cotton Paper", "Recycled", "Leather", "Brass"],
        things: ["Notebook", "Pencil Set", "Desk Planner", "Letter Set", "Sketchbook", "Paper Knife"],
        prices: (4, 59),
        use_of_it: "Takes ink without bleeding",
    },
    Line {
        category: "Bags",
        code: "BAG",
        materials: ["Waxed Canvas", "Leather", "Ripstop", "Wool Felt", "Cork", "Denim"],
        things: ["Backpack", "Tote", "Messenger Bag", "Weekender", "Pouch", "Bicycle Pannier"],
        prices: (19, 249),
        use_of_it: "Carries a day's worth and keeps the rain out",
    },
    Line {
        category: "Ceramics",
        code: "CER",
        materials: ["Speckled", "Celadon", "Cobalt", "Raku", "Matte White", "Terracotta"],
        things: ["Mug", "Serving Bowl", "Vase", "Dinner Plate", "Teapot", "Butter Dish"],
        prices: (12, 98),
        use_of_it: "Thrown and glazed by hand, safe in the dishwasher",
    },
    Line {
        category: "Audio",
        code: "AUD",
        materials: ["Walnut", "Compact", "Studio", "Portable", "Vintage", "Aluminium"],
        things: ["Headphones", "Bookshelf Speaker", "Turntable", "Radio", "Amplifier", "Earphones"],
        prices: (39, 449),
        use_of_it: "Clear at low volume and honest at high",
    },
    Line {
        category: "Bath & Body",
        code: "BTH",
        materials: ["Olive Oil", "Rosewater", "Cedar", "Sea Salt", "Lavender", "Argan"],
        things: ["Soap Bar", "Hand Cream", "Bath Salts", "Shampoo Bar", "Body Oil", "Candle"],
        prices: (5, 39),
        use_of_it: "Nothing in it that you could not name",
    },
];

const FIRST_NAMES: [&str; 25] = [
    "Ada", "Amir", "Beatriz", "Chen", "Clara", "Dilek", "Elif", "Farid", "Grace", "Hana", "Ines", "Jonas", "Kamala",
    "Leila", "Mateo", "Nadia", "Omar", "Priya", "Quentin", "Rosa", "Samir", "Tove", "Uma", "Viktor", "Yara",
];
const LAST_NAMES: [&str; 10] =
    ["Aydin", "Bianchi", "Castillo", "Dubois", "Eriksen", "Fischer", "Haddad", "Ibarra", "Kowalski", "Lindqvist"];

/// A small generator with a fixed sequence (splitmix64, Steele et al. 2014).
pub struct FixedSequence(u64);

impl FixedSequence {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// The products, in the order of their SKUs' numbers.
pub fn products(currency: Currency) -> Vec<NewProduct> {
    let mut draw = FixedSequence::new(7);
    let scale = 10i64.pow(currency.exponent());
    (0..PRODUCTS)
        .map(|number| {
            let line = &LINES[number % LINES.len()];
            let within = number / LINES.len();
            // 36 pairs a line: stepping by 7 (coprime with 36) visits each once before it repeats.
            let pair = (within * 7) % 36;
            let (material, thing) = (line.materials[pair / 6], line.things[pair % 6]);
            let (cheapest, dearest) = line.prices;
            let major = cheapest + draw.below((dearest - cheapest) as usize) as i64;
            let minor_units = if currency.exponent() == 0 { major } else { major * scale - scale / 10 };
            NewProduct {
                sku: format!("{}-{:03}", line.code, 100 + within),
                name: format!("{material} {thing}"),
                description: format!("{}. {material} {}.", line.use_of_it, thing.to_lowercase()),
                category: line.category.to_owned(),
                price: Money::new(minor_units, currency),
                available: 20 + draw.below(180) as i32,
            }
        })
        .collect()
}

/// The name and the address of customer `number`.
pub fn customer(number: usize) -> (String, String) {
    let first = FIRST_NAMES[number % FIRST_NAMES.len()];
    let last = LAST_NAMES[(number / FIRST_NAMES.len() * 3 + number) % LAST_NAMES.len()];
    let email = format!("{}.{}{}@demo.example", first.to_lowercase(), last.to_lowercase(), number);
    (format!("{first} {last}"), email)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_catalogue_is_the_same_every_time_and_repeats_no_name() {
        let currency: Currency = "EUR".parse().unwrap();
        let products = products(currency);
        assert_eq!(products, super::products(currency));
        assert_eq!(products.len(), PRODUCTS);
        assert_eq!(products.iter().map(|p| p.category.as_str()).collect::<HashSet<_>>().len(), 12);
        let names: HashSet<_> = products.iter().map(|p| (&p.category, &p.name)).collect();
        assert_eq!(names.len(), PRODUCTS);
        assert_eq!(products.iter().map(|p| &p.sku).collect::<HashSet<_>>().len(), PRODUCTS);
        assert!(products.iter().all(|p| p.price.minor_units > 0 && p.available >= 20));
    }

    #[test]
    fn customers_have_addresses_of_their_own() {
        let emails: HashSet<_> = (0..CUSTOMERS).map(|number| customer(number).1).collect();
        assert_eq!(emails.len(), CUSTOMERS);
        for email in emails {
            assert!(crate::domain::text::Email::parse(&email).is_ok(), "{email}");
        }
    }
}
